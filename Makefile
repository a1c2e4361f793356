# What people type. Each target is one script under scripts/, which says what it does as it goes.

.DEFAULT_GOAL := help
.PHONY: help setup build demo test chaos fuzz bench lint

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

setup: ## Install what building and testing need (Debian packages, Python environments)
	@scripts/setup.sh

build: ## Build the slipway binary (target/debug/slipway)
	@scripts/setup.sh build
	cargo build --locked --package slipway

demo: ## Run a training job from queue to finished run; stays up until Ctrl-C (ONCE=1: exits with the job's code)
	@ONCE=$(ONCE) scripts/demo.sh

test: ## Set up and run every check: format, lints, Rust tests, official client, docs, crash rounds
	@scripts/test.sh $(STAGES)

chaos: ## Crash rounds of server, agent and container engine (ROUNDS=1000, SEED=…, ENGINE_ROUNDS=20)
	@ROUNDS=$(ROUNDS) SEED=$(SEED) ENGINE_ROUNDS=$(ENGINE_ROUNDS) scripts/chaos.sh

fuzz: ## Fuzz every parser that a submitter reaches (SECONDS_EACH=60, TARGETS="graphql config")
	@SECONDS_EACH=$(SECONDS_EACH) scripts/fuzz.sh $(TARGETS)

bench: ## Measure queue and agent against their budgets and peers (ARGS="--items 2000 --deep 20000 --agents 1000")
	@bench/run.sh $(ARGS)

lint: ## Format check and clippy only
	@scripts/test.sh format lint
