/*
 * The counters of all processes, in one shared zone.
 *
 * Fixed size, atomics only, no lock: a process that dies in the middle of an
 * update leaves nothing behind.  The zone lives on through a reload.  Gauges of
 * the helper are its own: the next helper overwrites them.
 */

#ifndef NGX_PAYMENT_STATS_H
#define NGX_PAYMENT_STATS_H

#include <ngx_config.h>
#include <ngx_core.h>

#include <signal.h>


#define NGX_PAYMENT_SHARDS_MAX      64
#define NGX_PAYMENT_PROCESSES       128     /* slots of nginx's, modulo */
#define NGX_PAYMENT_OUTCOMES        32      /* > every payment_outcome_e */
#define NGX_PAYMENT_OPERATIONS      10
#define NGX_PAYMENT_OWNER_LEN       64
#define NGX_PAYMENT_LIVES           8
#define NGX_PAYMENT_BROKERS_MAX     16      /* of Kafka, that are shown */

/* A gauge's value that nobody knows. */
#define NGX_PAYMENT_STATS_UNKNOWN   ((ngx_atomic_uint_t) -1)

/* Bucket i counts what took at most so many us; the last one has no end.  Among
 * them are the bounds that rules and agreements speak of: 5 ms, 10 ms, 0.1 s,
 * 1 s. */
#define NGX_PAYMENT_BUCKETS         21

static const uint32_t  ngx_payment_bucket_us[NGX_PAYMENT_BUCKETS - 1] = {
    100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 75000, 100000,
    250000, 500000, 750000, 1000000, 2500000, 5000000, 7500000, 10000000,
    30000000
};


typedef struct {
    ngx_atomic_t    bucket[NGX_PAYMENT_BUCKETS];
    ngx_atomic_t    count;
    ngx_atomic_t    sum_us;
} ngx_payment_histogram_t;


/* An error and its time, as one word: 0 is none.  A code is 16 bits. */

#define ngx_payment_stats_error(code, unix_ms)                               \
    ((uint64_t) (code) << 48 | (unix_ms))

#define ngx_payment_stats_error_code(error)                                  \
    ((error) >> 48)
#define ngx_payment_stats_error_ms(error)                                    \
    ((error) & 0xffffffffffff)


/* What the workers have done with a shard; they all add here. */

typedef struct {
    ngx_atomic_t    batches;
    ngx_atomic_t    rows;              /* operations committed */
    ngx_atomic_t    rollbacks;
    ngx_atomic_t    retries;           /* batches tried again */
    ngx_atomic_t    splits;
    ngx_atomic_t    duplicate_batches; /* that met a used key */
    ngx_atomic_t    resolved;          /* unknown outcomes found out */
    ngx_atomic_t    unknown;           /* outcomes not found out in time */
    ngx_atomic_t    shed;              /* 503: queue full or too slow */
    ngx_atomic_t    connects;
    ngx_atomic_t    connect_failures;
    ngx_atomic_t    connections_lost;  /* open ones that died */
    ngx_atomic_t    failovers;
    ngx_atomic_t    refused;           /* by the topology, before COMMIT */
    ngx_atomic_t    unconfirmed;       /* exchanges whose COMMIT no replica may
                                          have */

    /* sums of the workers' gauges, made when somebody asks */
    ngx_atomic_t    open;              /* connections */
    ngx_atomic_t    busy;              /* connections with a batch */
    ngx_atomic_t    queued;            /* operations waiting */

    /* from ngx_payment_common.h and the configuration, likewise */
    ngx_atomic_t    usable;            /* 1: payment_health says UP of it */
    ngx_atomic_t    primary_known;
    ngx_atomic_t    topology_epoch;
    ngx_atomic_t    durability_replica;
    ngx_atomic_t    voters;
    ngx_atomic_t    lacking;
} ngx_payment_shard_stats_t;


/*
 * What one worker has now of a shard.  Only it writes here, and whoever gets
 * its process slot after it begins with zeros: a worker that was killed takes
 * its gauges along.
 */

typedef struct {
    ngx_atomic_t    open;
    ngx_atomic_t    busy;
    ngx_atomic_t    queued;
} ngx_payment_gauges_t;


/*
 * The worker that has a process slot.  Its gauges count while its process is
 * there; for the readiness of the node, only while it is of the configuration
 * that serves now.
 */

typedef struct {
    ngx_atomic_t    pid;               /* 0: none yet */
    ngx_atomic_t    generation;        /* of its configuration */
} ngx_payment_worker_t;


/* What the helper has done with a shard's outbox. */

typedef struct {
    ngx_atomic_t    epoch;
    ngx_atomic_t    acquired;          /* leases taken */
    ngx_atomic_t    leases_lost;       /* and not released */
    ngx_atomic_t    read;              /* events read */
    ngx_atomic_t    late;              /* events found below the cursor */
    ngx_atomic_t    published;         /* acknowledged by Kafka */
    ngx_atomic_t    deleted;
    ngx_atomic_t    failed;            /* failed delivery reports */
    ngx_atomic_t    dead;              /* moved to outbox_dead */
    ngx_atomic_t    rewinds;           /* back to the head of the table */
    ngx_atomic_t    purged;            /* idempotency keys */
    u_char          purge_position[16];   /* the key that the purge came to */
    ngx_atomic_t    purge_started_ms;  /* when it began; 0: it is to begin */
    ngx_atomic_t    expired;           /* authorizations */
    ngx_atomic_t    errors;            /* failed database exchanges */
    ngx_atomic_t    last_error;        /* of these: ngx_payment_stats_error() */

    /* from the gauges of the helpers that live, made when somebody asks */
    ngx_atomic_t    lease_held;        /* 1: events may be produced now */
    ngx_atomic_t    reading_fails;     /* 1: it is held, and of no use */
    ngx_atomic_t    backlog;           /* rows not yet published */
    ngx_atomic_t    oldest_age;        /* seconds, of the oldest of them */
    ngx_atomic_t    in_flight;
    ngx_atomic_t    dead_letters;      /* rows of outbox_dead, now;
                                          NGX_PAYMENT_STATS_UNKNOWN */
    ngx_atomic_t    overdue;           /* authorizations that should have
                                          expired, at most
                                          NGX_PAYMENT_EXPIRY_COUNT */
    ngx_atomic_t    overdue_age;       /* seconds, of the oldest of them */
} ngx_payment_outbox_stats_t;


/* What one life of a helper has now of a shard. */

typedef struct {
    ngx_atomic_t    lease_until;       /* monotonic ms; 0: not ours, or unfit */
    ngx_atomic_t    reading_fails;     /* 1: it is ours, and no read succeeds */
    ngx_atomic_t    backlog;
    ngx_atomic_t    oldest_us;         /* Unix time of the oldest of them; 0:
                                          none is known */
    ngx_atomic_t    in_flight;
    ngx_atomic_t    dead_counted;      /* dead letters + 1; 0: also while they
                                          were not counted yet, or the lease is
                                          not ours */
    ngx_atomic_t    overdue;           /* 0: also while it is not ours */
    ngx_atomic_t    overdue_us;        /* Unix time since when the oldest of
                                          them is; 0: there is none */
} ngx_payment_life_gauges_t;


/*
 * What a helper's Kafka client has measured of one broker: the time from a
 * request's sending to its answer.  The quantiles are those of the client's
 * last interval (statistics.interval.ms), of which nothing is known if no
 * answer came in it.
 */

typedef struct {
    ngx_atomic_t    node;              /* Kafka's number of it, + 1; 0: none */
    ngx_atomic_t    count;             /* answers, in this life */
    ngx_atomic_t    sum_us;
    ngx_atomic_t    recent;            /* answers in the last interval */
    ngx_atomic_t    p50_us;
    ngx_atomic_t    p95_us;
    ngx_atomic_t    p99_us;
} ngx_payment_broker_t;


/*
 * The life of a helper.  A helper that starts takes over the leases of those
 * that have died.  Only that life writes its gauges, and they count as long as
 * its process is there: nothing has to be wiped when it is killed, and an old
 * one that ends after a reload leaves its successor's alone.
 */

typedef struct {
    ngx_atomic_t    pid;               /* 0: ended in order */
    ngx_atomic_t    started_at;        /* Unix ms */
    u_char          owner[NGX_PAYMENT_OWNER_LEN];   /* terminated */

    ngx_atomic_t    kafka_up;
    ngx_payment_life_gauges_t  gauges[NGX_PAYMENT_SHARDS_MAX];

    /* those that were met first; their slots are theirs to the end */
    ngx_payment_broker_t  brokers[NGX_PAYMENT_BROKERS_MAX];
} ngx_payment_life_t;


typedef struct {
    ngx_atomic_t    pid;               /* 0: no helper */
    ngx_atomic_t    started_at;        /* Unix ms */
    ngx_atomic_t    starts;
    ngx_atomic_t    paused;            /* admin: 1 = do not publish */
    ngx_atomic_t    command;           /* see ngx_payment_command.h; 0: none */
    ngx_atomic_t    command_result;    /* of the last command */
    ngx_atomic_t    producers;         /* producers made, 1 + rebuilds */
    ngx_atomic_t    queue_full;
    ngx_atomic_t    kafka_up;          /* made when somebody asks */
    ngx_atomic_t    kafka_error;       /* the last: ngx_payment_stats_error() of
                                          librdkafka's code */
    u_char          owner[NGX_PAYMENT_OWNER_LEN];   /* lease owner uuid */

    /* the breaker's snapshot, by the latest life; rates in 1/100 %, -100 =
     * undefined */
    ngx_atomic_t    breaker_state;
    ngx_atomic_t    breaker_forced;    /* by an operator; CLOSED: not */
    ngx_atomic_t    breaker_failure_rate;
    ngx_atomic_t    breaker_slow_rate;
    ngx_atomic_t    breaker_buffered;
    ngx_atomic_t    breaker_failed;
    ngx_atomic_t    breaker_slow;
    ngx_atomic_t    breaker_slow_failed;
    ngx_atomic_t    breaker_not_permitted;
    ngx_atomic_t    breaker_transitions;
    ngx_atomic_t    breaker_max_us[3];       /* of the last 40 to 60 s, by
                                                successful, failed, ignored */
    ngx_payment_histogram_t   calls_successful;
    ngx_payment_histogram_t   calls_failed;
    ngx_payment_histogram_t   calls_ignored;

    ngx_payment_histogram_t   commit_to_ack;
    ngx_payment_outbox_stats_t  outbox[NGX_PAYMENT_SHARDS_MAX];

    /* the latest lives, at starts % NGX_PAYMENT_LIVES: also for damping crash
     * loops */
    ngx_payment_life_t  lives[NGX_PAYMENT_LIVES];
} ngx_payment_helper_stats_t;


typedef struct {
    /* 1: the helper waits, for a shard's events or for commands: ring */
    ngx_atomic_t    doorbell_armed[NGX_PAYMENT_SHARDS_MAX];
    ngx_atomic_t    command_armed;

    ngx_atomic_t    started_ms;        /* nginx, by ngx_payment_clock_ms() */
    ngx_atomic_t    started_at;        /* the same, Unix ms */
    ngx_atomic_t    generations;       /* configurations, since the start */
    ngx_atomic_t    draining;          /* admin: 1 = payment_health is 503 */
    ngx_atomic_t    requests[NGX_PAYMENT_OPERATIONS][NGX_PAYMENT_OUTCOMES];
    ngx_payment_histogram_t   request_time[NGX_PAYMENT_OPERATIONS];
    ngx_payment_histogram_t   queue_time;
    ngx_payment_histogram_t   commit_time;
    ngx_payment_shard_stats_t   shards[NGX_PAYMENT_SHARDS_MAX];
    ngx_payment_worker_t   workers[NGX_PAYMENT_PROCESSES];
    ngx_payment_gauges_t   gauges[NGX_PAYMENT_PROCESSES]
                                 [NGX_PAYMENT_SHARDS_MAX];
    ngx_payment_helper_stats_t  helper;
} ngx_payment_stats_t;


/* Is there such a process?  0 is none. */

static ngx_inline ngx_uint_t
ngx_payment_stats_alive(ngx_atomic_uint_t pid)
{
    return pid != 0 && ((ngx_pid_t) pid == ngx_pid
                        || kill((ngx_pid_t) pid, 0) == 0
                        || ngx_errno != NGX_ESRCH);
}


static ngx_inline void
ngx_payment_histogram_add(ngx_payment_histogram_t *h, uint64_t us)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_PAYMENT_BUCKETS - 1; i++) {
        if (us <= ngx_payment_bucket_us[i]) {
            break;
        }
    }

    (void) ngx_atomic_fetch_add(&h->bucket[i], 1);
    (void) ngx_atomic_fetch_add(&h->count, 1);
    (void) ngx_atomic_fetch_add(&h->sum_us, (ngx_atomic_int_t) us);
}

#endif /* NGX_PAYMENT_STATS_H */
