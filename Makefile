# The two commands: `make demo` and `make test`. They need Rust, a C and C++ compiler and Python 3.
# A check that needs a tool which is missing is skipped with a line that says so; with NO_SKIP=1 that is a failure.

CARGO ?= cargo
NO_SKIP ?= 0
ifeq ($(NO_SKIP),1)
export LIBWAL_NO_SKIP = 1
endif
EXAMPLES = basic checkpoint streaming errors_and_repair segments_and_retention replicated_state_machine message_queue

# What attacks the log's contract, each from another side; docs/testing.md says what each can find.
HARNESSES = fuzz sanitizers miri crashes loom schedules cost
# Not in `test`: it needs packages that few machines have.
ELSEWHERE = platforms

.PHONY: demo test lint unit examples docs c python spec planted soak bench bench-check bench-c bench-peers golden header \
	install $(HARNESSES) $(ELSEWHERE)

## The main job on real input: many writers, killed in the middle, recovered, compared.
demo:
	$(CARGO) run --quiet --release --package libwal-demo -- .

## Everything that can be proved here. Side by side, since none measures time; the shorter ones last.
test: lint
	$(MAKE) --jobs=2 --output-sync=target spec unit docs examples python c $(HARNESSES)
	$(MAKE) demo
	@echo "all checks passed"

## Formatting and warnings, which are errors. In the profile of the tests, as all that follows: what the compiler itself runs
## (the macros of dependencies) is then built once.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet --profile test --workspace --all-targets -- --deny warnings

## Unit tests beside the code, integration tests, the examples in the documentation.
unit:
	$(CARGO) test --workspace --exclude libwal-benches --no-fail-fast

docs:
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --quiet --profile test --workspace --no-deps

## The example programs; each checks itself.
examples:
	@set -e; for example in $(EXAMPLES); do \
		echo "example $$example"; \
		$(CARGO) run --quiet --profile test --package libwal --example $$example; \
	done

## The Python wheel: built, installed into a fresh virtual environment, and tested from there.
python:
	bindings/python/check

## The model in TLA+, and whether it catches planted faults. About four minutes of processor time.
spec:
	spec/check
	spec/check --planted

## The interleavings, the memory, the input: each in a few minutes. Status 77 is a check that was skipped, visibly.
$(HARNESSES) $(ELSEWHERE):
	tests/$@/check || [ $$? = 77 ]

## Whether the harnesses see: plants each bug of tests/planted, and demands that its harness fails.
planted:
	tests/planted/check

## Longer: 20,000 simulated lives of a log, the memory of a 4 GiB replay, ten times the crashes, the other platforms, 50,000
## lives under random schedules, half an hour of fuzzing for each target, 64 orders of a record's way and four of a whole life
## under Miri, all planted bugs, and two hours of the model within larger bounds.
soak:
	LIBWAL_SEEDS=20000 $(CARGO) test --release --package libwal --test simulation
	LIBWAL_BIG=1 $(CARGO) test --release --package libwal --test resident_memory
	tests/crashes/check --rounds 10 || [ $$? = 77 ]
	tests/platforms/check || [ $$? = 77 ]
	LIBWAL_SCHEDULES=50000 tests/schedules/check || [ $$? = 77 ]
	LIBWAL_FUZZ_SECONDS=1800 tests/fuzz/check || [ $$? = 77 ]
	LIBWAL_MIRI_SEEDS=64 tests/miri/check way unit soak || [ $$? = 77 ]
	tests/planted/check
	spec/check --soak

## The figures: ours, and the physical limit measured in the same run.
bench:
	$(CARGO) bench --package libwal-benches

## The ratios that must hold; they depend on the machine being quiet, so `test` does not run this.
bench-check:
	$(CARGO) bench --package libwal-benches --bench ratios -- --check

## Writes the golden logs anew. Only for a new version of the format.
golden:
	LIBWAL_WRITE_GOLDEN=1 $(CARGO) test --package libwal --test golden

## The C and C++ side, as `make install` leaves it.
c:
	CARGO="$(CARGO)" sh tests/c/check

## libwal beside other logs and the machine's limits, in one run; writes docs/benchmarks.md. BENCH=--quick is shorter.
bench-peers:
	$(CARGO) run --quiet --release --manifest-path bench/Cargo.toml --target-dir target/bench -- $(BENCH)

## Appends from C beside appends from Rust; `make bench-c CHECK=--check` fails below 0.9.
bench-c:
	PREFIX="$(CURDIR)/target/c/prefix" CARGO="$(CARGO)" sh ffi/install/install.sh
	$(CC) -std=c99 -O2 -Itarget/c/prefix/include tests/c/rate.c -o target/c/rate -Ltarget/c/prefix/lib -lwal \
		-Wl,-rpath,$(CURDIR)/target/c/prefix/lib
	$(CARGO) bench --quiet --package libwal-ffi --bench rate -- $(CURDIR)/target/c/rate $(CHECK)

## Writes include/wal.h and the list of exported symbols anew, from the sources in ffi/.
header:
	LIBWAL_WRITE_HEADER=1 $(CARGO) test --quiet --package libwal-ffi --test header

## Installs the C and C++ side: make install PREFIX=/usr/local
PREFIX ?= /usr/local
install:
	PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" CARGO="$(CARGO)" sh ffi/install/install.sh
