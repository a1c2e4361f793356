// Graphile Worker on the PostgreSQL of BENCH_POSTGRES_URL, in the terms of the budgets: single
// inserts by 64 clients, inserts in bulks of 1,000, jobs worked, insert to worked at an idle worker.
// Prints one JSON object.
import pg from "pg";
import { makeWorkerUtils, run } from "graphile-worker";

const connectionString = process.env.BENCH_POSTGRES_URL;
const singles = Number(process.env.BENCH_SINGLES ?? 20000);
const bulk = Number(process.env.BENCH_BULK ?? 20000);
const latencies = Number(process.env.BENCH_LATENCIES ?? 500);
const clients = 64;
const payload = { spec: "x".repeat(600) };
const quiet = { error() {}, warn() {}, info() {}, debug() {}, scope: () => quiet };

const percentile = (sorted, p) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))];
const pool = new pg.Pool({ connectionString, max: 24 });
const utils = await makeWorkerUtils({ pgPool: pool });
await utils.migrate();
await pool.query("delete from graphile_worker._private_jobs");

let start = performance.now();
await Promise.all(
  Array.from({ length: clients }, async (_, client) => {
    for (let i = client; i < singles; i += clients) await utils.addJob("job", payload);
  }),
);
const insertRate = singles / ((performance.now() - start) / 1000);

start = performance.now();
for (let i = 0; i < bulk; i += 1000) {
  await utils.addJobs(Array.from({ length: 1000 }, () => ({ identifier: "job", payload })));
}
const bulkRate = bulk / ((performance.now() - start) / 1000);

let done = 0;
let finished;
const all = new Promise((resolve) => (finished = resolve));
const waiting = new Map();
const preset = { worker: { concurrentJobs: 24, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } };
start = performance.now();
const runner = await run({
  preset,
  pgPool: pool,
  noHandleSignals: true,
  pollInterval: 1000,
  taskList: {
    job: () => {
      if (++done === singles + bulk) finished();
    },
    timed: ({ id }) => {
      waiting.get(id)?.(performance.now());
    },
  },
});
await all;
const workRate = (singles + bulk) / ((performance.now() - start) / 1000);

const measured = [];
for (let i = 0; i < latencies; i++) {
  const worked = new Promise((resolve) => waiting.set(i, resolve));
  const sent = performance.now();
  await utils.addJob("timed", { id: i, ...payload });
  measured.push((await worked) - sent);
}
measured.sort((a, b) => a - b);
await runner.stop();
await utils.release();
await pool.end();
console.log(
  JSON.stringify({
    peer: "graphile-worker 0.17",
    insert_per_s: insertRate,
    bulk_per_s: bulkRate,
    worked_per_s: workRate,
    latency_p50_ms: percentile(measured, 0.5),
    latency_p99_ms: percentile(measured, 0.99),
  }),
);
process.exit(0);
