# The developer's door. `make help` lists what is behind it; the work is done
# by the scripts in tools/, t/ and bench/.

.DEFAULT_GOAL := build

.PHONY: help build static asan install deb install-deps run run-two-nodes stop \
        clean test tidy test-unit test-fuzz test-nginx test-asan test-api \
        test-fault test-fault-binlog test-ha test-secrets test-browser \
        test-pacemaker test-upgrade test-matrix test-deploy test-image \
        test-deb bench \
        bench-pair bench-guards bench-replays bench-lists bench-observing \
        bench-publishing bench-tables bench-k6 bench-k6-flow bench-k6-pair

# a k6 run: its length, its requests or flows a second
DURATION ?= 60s
RATE     ?= 1000
FLOWS    ?= 300

# the commit that bench-pair and bench-k6-pair compare with
BASE ?= HEAD~1

# what prove and pytest are given, e.g. PROVE="-v t/authorize.t"
PROVE  ?=
PYTEST ?=
export PROVE PYTEST

# where `make install` puts what it installs; see tools/install.sh
export DESTDIR PREFIX MODULES_DIR

# what test-ha runs
HA = t/fault/test_ha.py t/fault/test_outbox_three_brokers.py

# Debian releases that test-matrix is for; without it, all that are supported
SUITES ?=

# seconds that the fuzzer searches for
FUZZ ?= 20


build:                  ## the dynamic module, for the distribution's nginx
	@tools/build.sh dynamic && echo build/ngx_http_payment_module.so

static:                 ## build/static/nginx, with the module compiled in
	@tools/build.sh static && echo build/static/nginx

asan:                   ## build/asan/nginx, under Address- and UBSanitizer
	@tools/build.sh asan && echo build/asan/nginx

install: build          ## DESTDIR=, PREFIX=/usr: the module, migrate, docs
	@tools/install.sh

deb:                    ## build/deb/libnginx-mod-http-payment_*.deb
	@tools/deb.sh build && echo build/deb/*.deb

install-deps:           ## the Debian packages and Python packages needed
	@tools/install-deps.sh all
	@tools/fetch.sh venv promtool plugins

run:                    ## everything on this machine, and one payment
	@tools/run.sh start

run-two-nodes:          ## two nodes, two shards: one dies, the other takes over
	@tools/two-nodes.sh show

stop:                   ## stop what `make run` started
	@tools/run.sh stop

clean: stop             ## stop, and remove the data and the build
	@tools/test-env.sh stop
	@tools/two-nodes.sh stop
	@rm -rf run build

test:                   ## all tests, on servers of their own
	@FUZZ='$(FUZZ)' tools/test.sh unit fuzz nginx api browser fault

tidy:                   ## the house's rules, and documents against sources
	@tools/test.sh tidy

test-unit:              ## the unit tests (no server)
	@tools/test.sh unit

test-fuzz:              ## the fuzzer of requests (no server); FUZZ=20 seconds
	@FUZZ='$(FUZZ)' tools/test.sh fuzz

test-nginx:             ## the t/*.t files; PROVE="-v t/one.t" for some
	@tools/test.sh nginx

test-asan:              ## the same and some faults, under Address- and UBSan
	@tools/test.sh asan

test-api:               ## models and examples; PYTEST="t/api -k name" for some
	@tools/test.sh api

test-fault:             ## faults on purpose; PYTEST="t/fault -k name" for some
	@tools/test.sh fault

test-fault-binlog:      ## the same, with servers that write a binary log
	@PAYMENT_TEST_MARIADB='log-bin=db-bin;sync-binlog=1' tools/test.sh fault

test-ha:                ## promotions, 50 times each, and blind (3 hours)
	@rm -f build/test/ha.md
	@PAYMENT_TEST_LONG=1 PYTEST="$${PYTEST:-$(HA)}" \
	    tools/test.sh fault; status=$$?; cat build/test/ha.md; exit $$status

test-pacemaker:         ## promotions by Debian's Pacemaker, on 3 nodes (root)
	@tools/pacemaker.sh

test-secrets:           ## all of them at debug: is a secret, body or key told?
	@PAYMENT_TEST_SECRETS=1 tools/test.sh nginx api fault

test-browser:           ## the dashboard; pictures by PAYMENT_TEST_PICTURES=1
	@tools/test.sh browser

test-upgrade:           ## old and new beside each other, under k6 (needs git)
	@tools/fetch.sh k6
	@PAYMENT_TEST_LONG=1 PYTEST=t/fault/test_upgrade.py tools/test.sh fault

test-matrix:            ## the t/*.t files on other Debian releases (half an hour)
	@tools/matrix.sh $(SUITES)

test-deploy:            ## deploy/ and conf/, as files: image, chart, nginx.conf
	@tools/fetch.sh helm deploy
	@build/deploy/bin/python -m pytest -q -p no:cacheprovider t/deploy

test-image:             ## the image of deploy/Dockerfile, built and run (root)
	@tools/image.sh

test-deb:               ## the package in a bare system: install, use, purge
	@tools/deb.sh test

bench:                  ## saturation, beside what the machine can do
	@bench/run.sh

bench-pair:             ## this build beside an older one; BASE=COMMIT
	@bench/pair.sh '$(BASE)'

bench-observing:        ## what metrics, health, log and traces cost; a scrape
	@bench/observing.sh

bench-guards:           ## what the guards against lost servers cost
	@bench/guards.sh claim
	@bench/guards.sh voters

bench-publishing:       ## what publishing costs the database, and the helper idle
	@bench/publishing.sh

bench-replays:          ## what repeats and reads cost; OLDER=COMMIT beside it
	@bench/replays.sh $(OLDER)

bench-lists:            ## what payment_list's index costs; pages beside payments
	@bench/lists.sh

bench-tables:           ## fifty million payments in the tables beside none
	@bench/tables.sh

bench-k6:               ## 1000 authorisations a second; DURATION=60s RATE=1000
	@bench/k6/run.sh authorize '$(DURATION)' '$(RATE)'

bench-k6-pair:          ## the same beside an older build; BASE=COMMIT
	@bench/k6/pair.sh '$(BASE)'

bench-k6-flow:          ## 300 flows a second: authorize, capture, refund
	@bench/k6/run.sh full-flow '$(DURATION)' '$(FLOWS)'

help:                   ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile \
	    | expand -t 22
