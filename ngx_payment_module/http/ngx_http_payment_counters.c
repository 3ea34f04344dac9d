/* Names, meanings and readings: see ngx_http_payment_counters.h. */

#include "ngx_http_payment_counters.h"
#include "ngx_payment_clock.h"


/* ms: whoever is refused asks again sooner, see NGX_PAYMENT_DB_BACKOFF_MAX */
#define NGX_HTTP_PAYMENT_REFUSED      10000

/* ms: an idle connection of each process asks each NGX_PAYMENT_WATCH_INTERVAL,
 * and none had an answer */
#define NGX_HTTP_PAYMENT_SILENT       1800


static void ngx_http_payment_counters_sum_lives(ngx_payment_helper_stats_t *h,
    ngx_uint_t shards);


#define ngx_http_payment_shard_counter(name, type, field, help)               \
    { name, NGX_HTTP_PAYMENT_##type,                                          \
      offsetof(ngx_payment_shard_stats_t, field), help }

#define ngx_http_payment_outbox_counter(name, type, field, help)              \
    { name, NGX_HTTP_PAYMENT_##type,                                          \
      offsetof(ngx_payment_outbox_stats_t, field), help }

#define ngx_http_payment_helper_counter(name, type, field, help)              \
    { name, NGX_HTTP_PAYMENT_##type,                                          \
      offsetof(ngx_payment_helper_stats_t, field), help }


const ngx_http_payment_counter_t  ngx_http_payment_shard_counters[] = {

    ngx_http_payment_shard_counter("batches", COUNTER, batches,
        "Transactions committed."),
    ngx_http_payment_shard_counter("rows", COUNTER, rows,
        "Operations committed in them."),
    ngx_http_payment_shard_counter("rollbacks", COUNTER, rollbacks,
        "Transactions rolled back."),
    ngx_http_payment_shard_counter("retries", COUNTER, retries,
        "Batches tried again after a deadlock, a lock timeout or a lost "
        "connection."),
    ngx_http_payment_shard_counter("splits", COUNTER, splits,
        "Batches split in halves because one of their rows failed."),
    ngx_http_payment_shard_counter("duplicates", COUNTER, duplicate_batches,
        "Batches that met an idempotency key already used."),
    ngx_http_payment_shard_counter("resolved", COUNTER, resolved,
        "Commits of unknown outcome whose outcome was found out."),
    ngx_http_payment_shard_counter("unknown", COUNTER, unknown,
        "Operations answered with OUTCOME_UNKNOWN."),
    ngx_http_payment_shard_counter("shed", COUNTER, shed,
        "Operations refused because too much waited or the database was "
        "away."),
    ngx_http_payment_shard_counter("connects", COUNTER, connects,
        "Connections opened."),
    ngx_http_payment_shard_counter("connect_failures", COUNTER,
        connect_failures,
        "Attempts to connect that failed."),
    ngx_http_payment_shard_counter("connections_lost", COUNTER,
        connections_lost,
        "Open connections that died."),
    ngx_http_payment_shard_counter("failovers", COUNTER, failovers,
        "Changes to another server of the shard."),
    ngx_http_payment_shard_counter("refused", COUNTER, refused,
        "Transactions ended before their commit because the server has not the "
        "shard's payments."),
    ngx_http_payment_shard_counter("unconfirmed", COUNTER, unconfirmed,
        "Commits answered by the server that perhaps no replica had "
        "confirmed, and that were looked for again."),
    ngx_http_payment_shard_counter("connections_open", GAUGE, open,
        "Connections open now."),
    ngx_http_payment_shard_counter("connections_busy", GAUGE, busy,
        "Connections with a batch on them now."),
    ngx_http_payment_shard_counter("queued", GAUGE, queued,
        "Operations that wait for a connection now."),
    ngx_http_payment_shard_counter("usable", FLAG, usable,
        "1 while payments of the shard are taken, as payment_health says."),
    ngx_http_payment_shard_counter("primary_known", FLAG, primary_known,
        "1 while the server that has claimed the payments is known, or none "
        "claims any."),
    ngx_http_payment_shard_counter("topology_epoch", GAUGE, topology_epoch,
        "The highest epoch of payment_topology that was seen."),
    ngx_http_payment_shard_counter("durability_replica", FLAG,
        durability_replica,
        "1 with durability replica."),
    ngx_http_payment_shard_counter("voters", GAUGE, voters,
        "Replicas that confirm the primary's commits, with durability "
        "replica."),
    ngx_http_payment_shard_counter("lacking", FLAG, lacking,
        "1 while the primary lacks payments that were answered."),

    { NULL, 0, 0, NULL }
};


const ngx_http_payment_counter_t  ngx_http_payment_outbox_counters[] = {

    ngx_http_payment_outbox_counter("lease_held", FLAG, lease_held,
        "1 while this nginx may publish the shard's events."),
    ngx_http_payment_outbox_counter("reading_fails", FLAG, reading_fails,
        "1 while this nginx has the lease and has read nothing for ten "
        "seconds."),
    ngx_http_payment_outbox_counter("lease_epoch", GAUGE, epoch,
        "The epoch of the lease held last."),
    ngx_http_payment_outbox_counter("leases_acquired", COUNTER, acquired,
        "Leases taken."),
    ngx_http_payment_outbox_counter("leases_lost", COUNTER, leases_lost,
        "Leases lost before they were given up."),
    ngx_http_payment_outbox_counter("backlog", HOLDERS, backlog,
        "Events not yet published; only the holder of the lease knows them."),
    ngx_http_payment_outbox_counter("oldest_event_age_seconds", HOLDERS,
        oldest_age,
        "Time since the oldest event that is not yet published was "
        "committed."),
    ngx_http_payment_outbox_counter("dead_letters", HOLDERS, dead_letters,
        "Dead letters that are there now."),
    ngx_http_payment_outbox_counter("in_flight", GAUGE, in_flight,
        "Events handed to the Kafka client and not yet reported on."),
    ngx_http_payment_outbox_counter("read", COUNTER, read,
        "Events read from the table."),
    ngx_http_payment_outbox_counter("late", COUNTER, late,
        "Events that were committed behind the reader's cursor."),
    ngx_http_payment_outbox_counter("published", COUNTER, published,
        "Events acknowledged by Kafka."),
    ngx_http_payment_outbox_counter("deleted", COUNTER, deleted,
        "Published events deleted from the table."),
    ngx_http_payment_outbox_counter("failed", COUNTER, failed,
        "Delivery reports that said no."),
    ngx_http_payment_outbox_counter("dead", COUNTER, dead,
        "Events moved to the dead letters."),
    ngx_http_payment_outbox_counter("rewinds", COUNTER, rewinds,
        "Returns to the head of the table, to begin anew there."),
    ngx_http_payment_outbox_counter("purged", COUNTER, purged,
        "Idempotency keys removed after their retention."),
    ngx_http_payment_outbox_counter("expired", COUNTER, expired,
        "Authorizations that expired."),
    ngx_http_payment_outbox_counter("overdue", HOLDERS, overdue,
        "Authorizations whose time has come and that were not looked at "
        "yet."),
    ngx_http_payment_outbox_counter("overdue_age_seconds", HOLDERS, overdue_age,
        "For how long the time of the oldest of them has come."),
    ngx_http_payment_outbox_counter("errors", COUNTER, errors,
        "Database exchanges of the outbox that failed."),

    { NULL, 0, 0, NULL }
};


const ngx_http_payment_counter_t  ngx_http_payment_helper_counters[] = {

    ngx_http_payment_helper_counter("paused", FLAG, paused,
        "1 while publishing is paused."),
    ngx_http_payment_helper_counter("kafka_up", FLAG, kafka_up,
        "1 while a broker of Kafka can be reached."),
    ngx_http_payment_helper_counter("starts", COUNTER, starts,
        "Starts of the helper process."),
    ngx_http_payment_helper_counter("producers", COUNTER, producers,
        "Kafka producers made: one for a start, one after a fatal error."),
    ngx_http_payment_helper_counter("queue_full", COUNTER, queue_full,
        "Events that waited because the Kafka client's queue was full."),

    { NULL, 0, 0, NULL }
};


const ngx_http_payment_timing_t  ngx_http_payment_timings[] = {

    { "request", offsetof(ngx_payment_stats_t, request_time),
      NGX_PAYMENT_OPERATIONS,
      "Time from the request's arrival to its answer, of operations that "
      "reached the database." },

    { "queue", offsetof(ngx_payment_stats_t, queue_time), 1,
      "Time that an operation waited for its batch to begin." },

    { "commit", offsetof(ngx_payment_stats_t, commit_time), 1,
      "Time that a batch took, from its beginning to its commit." },

    { "commit_to_ack",
      offsetof(ngx_payment_stats_t, helper.commit_to_ack), 1,
      "Time from an event's commit to Kafka's acknowledgement." },

    { NULL, 0, 0, NULL }
};


const ngx_http_payment_timing_t  ngx_http_payment_calls[] = {

    { "successful", offsetof(ngx_payment_helper_stats_t, calls_successful), 1,
      NULL },

    { "failed", offsetof(ngx_payment_helper_stats_t, calls_failed), 1, NULL },

    { "ignored", offsetof(ngx_payment_helper_stats_t, calls_ignored), 1,
      NULL },

    { NULL, 0, 0, NULL }
};


uint64_t
ngx_http_payment_counters_value(const void *stats,
    const ngx_http_payment_counter_t *counter)
{
    const ngx_atomic_t  *value;

    value = (const ngx_atomic_t *) ((const u_char *) stats + counter->offset);

    switch (counter->type) {

    case NGX_HTTP_PAYMENT_GAUGE:
    case NGX_HTTP_PAYMENT_HOLDERS:
        return ngx_http_payment_counters_gauge(value);

    case NGX_HTTP_PAYMENT_FLAG:
        return *value ? 1 : 0;

    default: /* NGX_HTTP_PAYMENT_COUNTER */
        return *value;
    }
}


ngx_uint_t
ngx_http_payment_counters_known(const void *stats,
    const ngx_http_payment_counter_t *counter)
{
    const ngx_payment_outbox_stats_t  *outbox;

    if (counter->type != NGX_HTTP_PAYMENT_HOLDERS) {
        return 1;
    }

    outbox = stats;

    return outbox->lease_held != 0
           && *(const ngx_atomic_t *) ((const u_char *) stats + counter->offset)
              != NGX_PAYMENT_STATS_UNKNOWN;
}


/* A helper that was killed has left its gauges, and its pid. */

static void
ngx_http_payment_counters_sum_lives(ngx_payment_helper_stats_t *h,
    ngx_uint_t shards)
{
    uint64_t                    now, now_us, us;
    ngx_uint_t                  i, s, kafka_up;
    ngx_payment_life_t         *life;
    ngx_payment_life_gauges_t  *gauges;
    ngx_payment_outbox_stats_t  sum[NGX_PAYMENT_SHARDS_MAX];

    now = ngx_payment_clock_ms();
    now_us = ngx_payment_unix_us();
    kafka_up = 0;
    ngx_memzero(sum, sizeof(sum));

    for (i = 0; i < NGX_PAYMENT_LIVES; i++) {
        life = &h->lives[i];

        if (!ngx_payment_stats_alive(life->pid)) {
            continue;
        }

        kafka_up |= life->kafka_up;

        for (s = 0; s < shards; s++) {
            gauges = &life->gauges[s];
            us = gauges->oldest_us;
            us = (us && now_us > us) ? now_us - us : 0;

            sum[s].lease_held |= (gauges->lease_until > now);
            sum[s].backlog += gauges->backlog;
            sum[s].oldest_age = ngx_max(sum[s].oldest_age, us / 1000000);
            sum[s].in_flight += gauges->in_flight;
            sum[s].reading_fails |= gauges->reading_fails;
            sum[s].dead_letters = ngx_max(sum[s].dead_letters,
                                          gauges->dead_counted);
            sum[s].overdue = ngx_max(sum[s].overdue, gauges->overdue);

            us = gauges->overdue_us;
            us = (us && now_us > us) ? now_us - us : 0;
            sum[s].overdue_age = ngx_max(sum[s].overdue_age, us / 1000000);
        }
    }

    h->kafka_up = kafka_up;

    for (s = 0; s < shards; s++) {
        h->outbox[s].lease_held = sum[s].lease_held;
        h->outbox[s].backlog = sum[s].backlog;
        h->outbox[s].oldest_age = sum[s].oldest_age;
        h->outbox[s].in_flight = sum[s].in_flight;
        h->outbox[s].reading_fails = sum[s].reading_fails;

        /* 0, less 1, is NGX_PAYMENT_STATS_UNKNOWN */

        h->outbox[s].dead_letters = sum[s].dead_letters - 1;
        h->outbox[s].overdue = sum[s].overdue;
        h->outbox[s].overdue_age = sum[s].overdue_age;
    }
}


void
ngx_http_payment_counters_sum(const ngx_http_payment_main_conf_t *pmcf)
{
    ngx_uint_t                    s, i;
    ngx_payment_stats_t          *stats;
    ngx_payment_shard_t         **shards;
    ngx_payment_gauges_t         *gauges, sum[NGX_PAYMENT_SHARDS_MAX];
    ngx_payment_common_shard_t   *common;

    stats = pmcf->writer.stats;
    shards = pmcf->shards.elts;

    ngx_http_payment_counters_sum_lives(&stats->helper, pmcf->shards.nelts);

    ngx_memzero(sum, sizeof(sum));

    for (i = 0; i < NGX_PAYMENT_PROCESSES; i++) {

        if (!ngx_payment_stats_alive(stats->workers[i].pid)) {
            continue;
        }

        for (s = 0; s < pmcf->shards.nelts; s++) {
            gauges = &stats->gauges[i][s];
            sum[s].open += gauges->open;
            sum[s].busy += gauges->busy;
            sum[s].queued += gauges->queued;
        }
    }

    for (s = 0; s < pmcf->shards.nelts; s++) {
        stats->shards[s].open = sum[s].open;
        stats->shards[s].busy = sum[s].busy;
        stats->shards[s].queued = sum[s].queued;

        /* a node without payment_api takes no payments, and lacks nothing */

        stats->shards[s].usable =
            !pmcf->api || ngx_http_payment_counters_usable(pmcf, shards[s]);

        common = shards[s]->common;

        stats->shards[s].primary_known = !common->claimed || common->found;
        stats->shards[s].topology_epoch = common->epoch;
        stats->shards[s].durability_replica =
            (shards[s]->durability == NGX_PAYMENT_DURABILITY_REPLICA);
        stats->shards[s].voters = common->voters;
        stats->shards[s].lacking = common->lacking;
    }
}


/*
 * Old workers that live on after a reload take no more payments.  A worker that
 * was killed is not counted: its successor sets its gauges to 0.
 */

ngx_uint_t
ngx_http_payment_counters_open(const ngx_payment_stats_t *stats,
    ngx_uint_t generation, ngx_uint_t shard)
{
    ngx_uint_t  i, open;

    open = 0;

    for (i = 0; i < NGX_PAYMENT_PROCESSES; i++) {
        if (stats->workers[i].generation == generation
            && ngx_payment_stats_alive(stats->workers[i].pid))
        {
            open += stats->gauges[i][shard].open;
        }
    }

    return open;
}


/*
 * A server that says to one process that it takes no writes, or has not the
 * payments, says so to all, also to those whose connections are open and idle.
 */

ngx_uint_t
ngx_http_payment_counters_usable(const ngx_http_payment_main_conf_t *pmcf,
    const ngx_payment_shard_t *shard)
{
    ngx_msec_t  refused;

    refused = shard->common->refused;

    return ngx_http_payment_counters_open(pmcf->writer.stats, pmcf->generation,
                                          shard->index)
           != 0
           && !ngx_http_payment_counters_silent(shard)
           && (refused == 0
               || (ngx_msec_int_t) (ngx_current_msec - refused)
                  > NGX_HTTP_PAYMENT_REFUSED);
}


ngx_uint_t
ngx_http_payment_counters_silent(const ngx_payment_shard_t *shard)
{
    /* signed: another process's clock may be ahead of ours */

    return (ngx_msec_int_t) (ngx_current_msec - shard->common->answered)
           > NGX_HTTP_PAYMENT_SILENT;
}


uint64_t
ngx_http_payment_counters_gauge(const ngx_atomic_t *value)
{
    ngx_atomic_int_t  n;

    n = (ngx_atomic_int_t) *value;

    return n < 0 ? 0 : (uint64_t) n;
}


ngx_atomic_int_t
ngx_http_payment_counters_rate(const ngx_payment_helper_stats_t *h,
    const ngx_atomic_t *rate)
{
    /* before the first helper has written, the zone holds zeros, not -1 */

    return h->starts ? (ngx_atomic_int_t) *rate : -100;
}


void
ngx_http_payment_counters_times(ngx_http_payment_times_t *t,
    const ngx_payment_histogram_t *h, ngx_uint_t n)
{
    uint64_t    sum;
    ngx_uint_t  i, k;

    sum = 0;
    t->sum_us = 0;

    for (i = 0; i < NGX_PAYMENT_BUCKETS; i++) {
        for (k = 0; k < n; k++) {
            sum += h[k].bucket[i];
        }

        t->up_to[i] = sum;
    }

    for (k = 0; k < n; k++) {
        t->sum_us += h[k].sum_us;
    }
}


/* The times within a bucket are taken to be spread evenly over it. */

uint64_t
ngx_http_payment_counters_quantile(const ngx_http_payment_times_t *t,
    ngx_uint_t percent)
{
    uint64_t    count, rank, before, lower, upper;
    ngx_uint_t  i;

    count = ngx_http_payment_times_count(t);

    if (count == 0) {
        return 0;
    }

    /* count * percent / 100, rounded up, in parts that cannot overflow */

    rank = count / 100 * percent + (count % 100 * percent + 99) / 100;
    rank = ngx_max(rank, 1);

    before = 0;
    lower = 0;

    for (i = 0; i < NGX_PAYMENT_BUCKETS - 1; i++) {

        upper = ngx_payment_bucket_us[i];

        if (rank <= t->up_to[i]) {
            return lower + (uint64_t) ((double) (upper - lower)
                                       * (double) (rank - before)
                                       / (double) (t->up_to[i] - before));
        }

        before = t->up_to[i];
        lower = upper;
    }

    /* of the times beyond the last limit nothing more is known */

    return lower;
}


const char *
ngx_http_payment_counters_operation(ngx_uint_t operation)
{
    /* operation is 0 where the path named none */

    if (operation == 0) {
        return "none";
    }

    return operation == PAYMENT_EXPIRE
           ? NULL : payment_name_operation((payment_operation_e) operation);
}


const char *
ngx_http_payment_counters_outcome(ngx_uint_t outcome)
{
    if (outcome == PAYMENT_REPLAYED) {
        return "REPLAYED";
    }

    if (outcome > PAYMENT_OUTCOME_UNKNOWN) {
        return NULL;
    }

    return payment_name_error((payment_outcome_e) outcome)->code;
}


ngx_uint_t
ngx_http_payment_counters_up(const ngx_payment_helper_stats_t *h)
{
    return ngx_payment_stats_alive(h->pid);
}


const ngx_payment_broker_t *
ngx_http_payment_counters_brokers(const ngx_payment_helper_stats_t *h)
{
    const ngx_payment_life_t  *life;

    if (h->starts == 0) {
        return NULL;
    }

    life = &h->lives[(h->starts - 1) % NGX_PAYMENT_LIVES];

    return ngx_payment_stats_alive(life->pid) ? life->brokers : NULL;
}


ngx_msec_t
ngx_http_payment_counters_uptime(const ngx_payment_stats_t *stats)
{
    /* both times count from the machine's start, so that a wall clock which
     * was set does not matter */

    return (ngx_msec_t) (ngx_payment_clock_ms() - stats->started_ms);
}
