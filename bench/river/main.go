// Command river measures River on the PostgreSQL of BENCH_POSTGRES_URL, in the terms of the
// budgets: single inserts by 64 clients, inserts in bulks of 1,000, jobs worked, insert to worked at
// an idle worker. It prints one JSON object.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

type args struct {
	Timed int    `json:"timed"`
	Spec  string `json:"spec"`
}

func (args) Kind() string { return "job" }

type worker struct {
	river.WorkerDefaults[args]
	done   atomic.Int64
	target int64
	all    chan struct{}
	timed  sync.Map
}

func (w *worker) Work(_ context.Context, job *river.Job[args]) error {
	if job.Args.Timed > 0 {
		if worked, ok := w.timed.Load(job.Args.Timed); ok {
			worked.(chan time.Time) <- time.Now()
		}
		return nil
	}
	if w.done.Add(1) == w.target {
		close(w.all)
	}
	return nil
}

func number(name string, otherwise int) int {
	if value, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return value
	}
	return otherwise
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	ctx := context.Background()
	singles, bulk, latencies := number("BENCH_SINGLES", 20000), number("BENCH_BULK", 20000), number("BENCH_LATENCIES", 500)
	const clients = 64
	config, err := pgxpool.ParseConfig(os.Getenv("BENCH_POSTGRES_URL"))
	check(err)
	config.MaxConns = 64
	pool, err := pgxpool.NewWithConfig(ctx, config)
	check(err)
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	check(err)
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	check(err)
	_, err = pool.Exec(ctx, "truncate river_job")
	check(err)

	work := &worker{target: int64(singles + bulk), all: make(chan struct{})}
	workers := river.NewWorkers()
	river.AddWorker(workers, work)
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		FetchCooldown:     time.Millisecond,
		FetchPollInterval: time.Second,
		Logger:            slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 1000}},
		Workers:           workers,
	})
	check(err)
	spec := strings.Repeat("x", 600)

	start := time.Now()
	var group sync.WaitGroup
	for c := range clients {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := c; i < singles; i += clients {
				_, err := client.Insert(ctx, args{Spec: spec}, nil)
				check(err)
			}
		}()
	}
	group.Wait()
	insertRate := float64(singles) / time.Since(start).Seconds()

	start = time.Now()
	for i := 0; i < bulk; i += 1000 {
		many := make([]river.InsertManyParams, 1000)
		for j := range many {
			many[j] = river.InsertManyParams{Args: args{Spec: spec}}
		}
		_, err := client.InsertManyFast(ctx, many)
		check(err)
	}
	bulkRate := float64(bulk) / time.Since(start).Seconds()

	start = time.Now()
	check(client.Start(ctx))
	<-work.all
	workRate := float64(singles+bulk) / time.Since(start).Seconds()

	measured := make([]float64, 0, latencies)
	for i := 1; i <= latencies; i++ {
		worked := make(chan time.Time, 1)
		work.timed.Store(i, worked)
		sent := time.Now()
		_, err := client.Insert(ctx, args{Timed: i, Spec: spec}, nil)
		check(err)
		measured = append(measured, (<-worked).Sub(sent).Seconds()*1000)
	}
	check(client.Stop(ctx))
	sort.Float64s(measured)
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"peer":           "river 0.51",
		"insert_per_s":   insertRate,
		"bulk_per_s":     bulkRate,
		"worked_per_s":   workRate,
		"latency_p50_ms": measured[len(measured)/2],
		"latency_p99_ms": measured[len(measured)*99/100],
	}))
}
