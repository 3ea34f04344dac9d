/*
 * What becomes of the events of one shard: handed out in order, at most one of
 * a payment at a time; acknowledged, tried again, or given up.
 *
 * Owner: the helper process; one thread.
 *
 * A failure that is not the event's own (an outage) ends the round: nothing
 * more is handed out, what is in flight reports, and reading begins again at
 * the head of the table.  What Kafka has stays known until it is deleted, so
 * nothing is sent a second time that was acknowledged.
 *
 * A failure that is the event's own may be that of another in its batch, which
 * the broker refuses as a whole.  So it is tried again alone, with nothing else
 * on the way, and only an event that failed alone becomes a dead letter.
 */

#include "ngx_payment_relay.h"
#include "ngx_payment_command.h"


#define NGX_PAYMENT_BACKOFF_MIN_NS    (100 * 1000000ULL)
#define NGX_PAYMENT_BACKOFF_MAX_NS    (2000 * 1000000ULL)
#define NGX_PAYMENT_PROBES_MAX        64     /* at a time, in HALF_OPEN */
#define NGX_PAYMENT_SUSPECTS_MAX      64     /* read again at a time */
#define NGX_PAYMENT_ALONE_MAX         16     /* before others have a turn */


static ngx_uint_t ngx_payment_relay_may_send(ngx_payment_relay_t *r,
    uint64_t now_ns);
static ngx_int_t ngx_payment_relay_suspects(ngx_payment_relay_t *r);
static ngx_uint_t ngx_payment_relay_probed(ngx_payment_relay_t *r,
    payment_event_t *e);
static ngx_int_t ngx_payment_relay_send(ngx_payment_relay_t *r,
    payment_event_t *e, uint64_t now_ns);
static void ngx_payment_relay_delivered(ngx_payment_relay_t *r,
    payment_event_t *e, uint64_t now_ns);
static void ngx_payment_relay_failed(ngx_payment_relay_t *r,
    payment_event_t *e, uint64_t now_ns);
static void ngx_payment_relay_refused(ngx_payment_relay_t *r,
    payment_event_t *e, rd_kafka_resp_err_t err, uint64_t now_ns);
static void ngx_payment_relay_follow(payment_event_t *e);
static void ngx_payment_relay_forget_unsent(ngx_payment_relay_t *r);
static void ngx_payment_relay_rewound(ngx_payment_relay_t *r);
static void ngx_payment_relay_doubt(ngx_payment_relay_t *r);
static void ngx_payment_relay_retry(ngx_payment_relay_t *r, uint64_t now_ns);
static void ngx_payment_relay_forget(ngx_payment_relay_t *r,
    payment_event_t *e);


ngx_int_t
ngx_payment_relay_init(ngx_payment_relay_t *r, ngx_payment_outbox_t *o,
    ngx_payment_shard_t *shard)
{
    size_t                      capacity;
    ngx_payment_outbox_conf_t  *conf;

    conf = o->conf;

    r->outbox = o;
    r->shard = shard;
    r->stats = &o->stats->helper.outbox[shard->index];
    r->log = o->log;
    r->state = NGX_PAYMENT_RELAY_STOPPED;

    /* in flight; acknowledged and not yet deleted; read and not yet sent */

    capacity = 2 * conf->max_in_flight
               + 2 * NGX_PAYMENT_BATCH_GROWTH * conf->batch_size
               + 2 * NGX_PAYMENT_WANTED_MAX;

    if (payment_inflight_create(&r->table, capacity, ngx_payment_row_free)
        != 0)
    {
        return NGX_ERROR;
    }

    r->table.owner = r;

    if (ngx_payment_reader_init(r) != NGX_OK
        || ngx_payment_fence_init(r) != NGX_OK
        || ngx_payment_purge_init(r) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_payment_relay_open(ngx_payment_relay_t *r)
{
    ngx_payment_fence_open(r);
    ngx_payment_reader_open(r);
}


/*
 * A server that crashed, or a replica that was promoted, may have lost rows
 * that we know, and may give their ids to others.  So what Kafka has is looked
 * at again before it is deleted, and the rest is read again anyway.
 */

void
ngx_payment_relay_connected(ngx_payment_relay_t *r, ngx_payment_db_t *db,
    ngx_uint_t again)
{
    if (r->server != db->server) {
        r->anew = (again || r->state != NGX_PAYMENT_RELAY_STOPPED);
        r->server = db->server;

    } else if (!again) {
        return;
    }

    r->doubt = 1;

    ngx_payment_relay_rewind(r);
}


void
ngx_payment_relay_leased(ngx_payment_relay_t *r)
{
    ngx_payment_fence_t  *f;

    f = &r->fence;

    /*
     * With the next epoch nobody had it in between: what Kafka acknowledged
     * then is still to be deleted.  Else our knowledge is stale.
     */

    if (f->lease.epoch != f->last_epoch + 1) {
        r->anew = 1;
    }

    f->last_epoch = f->lease.epoch;

    /* whoever had it before may have left some */
    ngx_payment_reader_dead(r);

    r->stats->lease_held = 1;
    r->failures = 0;

    if (r->state == NGX_PAYMENT_RELAY_STOPPED) {
        ngx_payment_relay_rewound(r);
    }
}


void
ngx_payment_relay_unleased(ngx_payment_relay_t *r)
{
    r->stats->lease_held = 0;
    r->stats->backlog = 0;

    if (r->fence.replay_id && r->fence.op != NGX_PAYMENT_FENCE_REPLAY) {
        r->fence.replay_id = 0;
        ngx_payment_command_done(r->outbox,
                                        NGX_PAYMENT_COMMAND_NOT_HERE);
    }

    ngx_payment_relay_rewind(r);

    /* another may be publishing already: what is queued must not leave */

    if (payment_inflight_count(&r->table, PAYMENT_EVENT_SENT)) {
        ngx_payment_producer_abort(&r->outbox->producer, 0);
    }
}


/* handing out */

void
ngx_payment_relay_pump(ngx_payment_relay_t *r)
{
    uint64_t               now;
    ngx_int_t              rc;
    payment_event_t       *e, *next, *occupant;
    ngx_payment_outbox_t  *o;

    o = r->outbox;

    if (ngx_payment_relay_suspects(r) == NGX_OK) {
        return;
    }

    for (e = payment_inflight_first(&r->table, PAYMENT_EVENT_READY);
         e;
         e = next)
    {
        next = e->next;
        now = ngx_payment_clock_ns();

        if (!ngx_payment_relay_may_send(r, now)) {
            break;
        }

        if (e->version > 1
            && (e->gate > r->reader.heads_done
                || payment_inflight_count(&r->table, PAYMENT_EVENT_WANTED)))
        {
            r->reader.head_wanted = (e->gate > r->reader.heads_done);
            ngx_payment_reader_soon(r);
            break;
        }

        occupant = payment_inflight_occupant(e);

        if (occupant && occupant != e) {
            payment_inflight_hold(occupant, e);
            continue;
        }

        if (o->breaker.state == PAYMENT_BREAKER_HALF_OPEN && o->breaker_on
            && ngx_payment_relay_probed(r, e))
        {
            continue;
        }

        rc = ngx_payment_relay_send(r, e, now);

        if (rc != NGX_OK) {
            break;
        }
    }

    r->stats->in_flight = payment_inflight_count(&r->table,
                                                 PAYMENT_EVENT_SENT);

    if (r->reader.full) {
        ngx_payment_reader_soon(r);
    }
}


static ngx_uint_t
ngx_payment_relay_may_send(ngx_payment_relay_t *r, uint64_t now_ns)
{
    ngx_payment_outbox_t  *o;

    o = r->outbox;

    return r->state == NGX_PAYMENT_RELAY_RUNNING
           && !o->draining
           && !o->stats->helper.paused
           && now_ns >= r->resume_at_ns
           && o->producer.state == NGX_PAYMENT_PRODUCER_UP
           && payment_inflight_count(&r->table, PAYMENT_EVENT_SENT)
              < o->conf->max_in_flight
           && ngx_payment_lease_allows(r, now_ns);
}


/*
 * NGX_OK: somebody sends, or waits to send, one event with nothing else on the
 * way, and we are not to disturb.
 */

static ngx_int_t
ngx_payment_relay_suspects(ngx_payment_relay_t *r)
{
    uint64_t               now;
    ngx_uint_t             me;
    payment_event_t       *e;
    ngx_payment_outbox_t  *o;

    o = r->outbox;
    me = r - o->relays + 1;
    now = ngx_payment_clock_ns();
    e = payment_inflight_first(&r->table, PAYMENT_EVENT_SUSPECT);

    if (o->exclusive == 0 && e && r->alone < NGX_PAYMENT_ALONE_MAX
        && ngx_payment_relay_may_send(r, now))
    {
        o->exclusive = me;
    }

    if (o->exclusive == 0) {
        r->alone = 0;
        return NGX_DECLINED;
    }

    if (o->exclusive != me || o->producer.outstanding) {
        return NGX_OK;
    }

    if (e && r->alone < NGX_PAYMENT_ALONE_MAX
        && ngx_payment_relay_may_send(r, now))
    {
        e->alone = 1;
        r->alone++;

        if (ngx_payment_relay_send(r, e, now) == NGX_OK
            && o->producer.outstanding)
        {
            return NGX_OK;
        }
    }

    /* nobody left, or no permit: let the others go on */

    o->exclusive = 0;

    return NGX_DECLINED;
}


/* Probes are of distinct keys, so that a key's order does not hang on them. */

static ngx_uint_t
ngx_payment_relay_probed(ngx_payment_relay_t *r, payment_event_t *e)
{
    ngx_uint_t        n;
    payment_event_t  *sent;

    n = 0;

    for (sent = payment_inflight_first(&r->table, PAYMENT_EVENT_SENT);
         sent;
         sent = sent->next)
    {
        if (sent->merchant == e->merchant || ++n == NGX_PAYMENT_PROBES_MAX) {
            return 1;
        }
    }

    return 0;
}


/* NGX_DECLINED: not now, and nor any other. */

static ngx_int_t
ngx_payment_relay_send(ngx_payment_relay_t *r, payment_event_t *e,
    uint64_t now_ns)
{
    ngx_payment_send_e     rc;
    rd_kafka_resp_err_t    err;
    ngx_payment_outbox_t  *o;

    o = r->outbox;

    if (!ngx_payment_outbox_permit(o, now_ns, e)) {
        return NGX_DECLINED;
    }

    rc = ngx_payment_producer_send(&o->producer, e->data, e,
                                   r->fence.lease.epoch, &err);

    switch (rc) {

    case NGX_PAYMENT_SEND_OK:
        e->since_ns = now_ns;
        payment_inflight_free_data(e);
        payment_inflight_occupy(e);
        payment_inflight_move(e, PAYMENT_EVENT_SENT);
        return NGX_OK;

    case NGX_PAYMENT_SEND_REFUSED:
        /* by the library, which looks at this event alone */
        e->since_ns = now_ns;
        e->alone = 1;
        ngx_payment_outbox_result(o, now_ns, e, PAYMENT_BREAKER_IGNORED);
        payment_inflight_occupy(e);
        ngx_payment_relay_refused(r, e, err, now_ns);
        return NGX_OK;

    default:
        ngx_payment_outbox_unpermit(o, e);
        return NGX_DECLINED;
    }
}


/* hearing of it */

void
ngx_payment_relay_report(ngx_payment_relay_t *r, payment_event_t *e,
    ngx_payment_verdict_e verdict, rd_kafka_resp_err_t err)
{
    uint64_t               now;
    ngx_payment_outbox_t  *o;

    o = r->outbox;
    now = ngx_payment_clock_ns();

    switch (verdict) {

    case NGX_PAYMENT_VERDICT_DELIVERED:
        ngx_payment_outbox_result(o, now, e, PAYMENT_BREAKER_SUCCESS);
        ngx_payment_relay_delivered(r, e, now);
        break;

    case NGX_PAYMENT_VERDICT_FAILED:
        (void) ngx_atomic_fetch_add(&r->stats->failed, 1);
        ngx_payment_outbox_result(o, now, e, PAYMENT_BREAKER_FAILURE);

        if (r->state == NGX_PAYMENT_RELAY_RUNNING) {
            r->failures++;
            ngx_log_error(NGX_LOG_ERR, r->log, 0,
                          "payment outbox: shard \"%V\": delivery failed: %s, "
                          "%ui events in flight; beginning again at event %uL "
                          "or before", &r->shard->name, rd_kafka_err2name(err),
                          payment_inflight_count(&r->table,
                                                 PAYMENT_EVENT_SENT), e->id);
        }

        ngx_payment_relay_failed(r, e, now);
        break;

    case NGX_PAYMENT_VERDICT_FAILED_ITSELF:
        (void) ngx_atomic_fetch_add(&r->stats->failed, 1);
        ngx_payment_outbox_result(o, now, e, PAYMENT_BREAKER_IGNORED);
        ngx_payment_relay_refused(r, e, err, now);
        break;

    default: /* NGX_PAYMENT_VERDICT_UNSENT */
        ngx_payment_outbox_unpermit(o, e);
        ngx_payment_relay_failed(r, e, now);
        break;
    }

    if (r->state == NGX_PAYMENT_RELAY_REWINDING
        && payment_inflight_count(&r->table, PAYMENT_EVENT_SENT) == 0)
    {
        ngx_payment_relay_rewound(r);
    }
}


static void
ngx_payment_relay_delivered(ngx_payment_relay_t *r, payment_event_t *e,
    uint64_t now_ns)
{
    uint64_t  us;

    us = ngx_payment_unix_us();
    us = (us > e->created_us) ? us - e->created_us : 0;

    ngx_payment_histogram_add(&r->outbox->stats->helper.commit_to_ack, us);

    (void) ngx_atomic_fetch_add(&r->stats->published, 1);

    r->failures = 0;

    (void) payment_inflight_vacate(e);
    payment_inflight_move(e, PAYMENT_EVENT_ACKED);

    ngx_payment_fence_acked(r);
}


/* Not sent, and nothing of its own is the reason. */

static void
ngx_payment_relay_failed(ngx_payment_relay_t *r, payment_event_t *e,
    uint64_t now_ns)
{
    ngx_payment_relay_rewind(r);

    if (e->attempts) {
        /* what it has against it is not forgotten */
        e->since_ns = now_ns;
        e->alone = 0;
        payment_inflight_move(e, PAYMENT_EVENT_REFUSED);
        return;
    }

    ngx_payment_relay_forget(r, e);
}


/* It failed for its own sake, or for that of another in its batch. */

static void
ngx_payment_relay_refused(ngx_payment_relay_t *r, payment_event_t *e,
    rd_kafka_resp_err_t err, uint64_t now_ns)
{
    payment_inflight_free_data(e);

    e->attempts++;
    e->reason = (uint16_t) (int16_t) err;

    if (e->attempts == 1) {
        ngx_log_error(NGX_LOG_WARN, r->log, 0,
                      "payment outbox: shard \"%V\": event %uL was refused: %s",
                      &r->shard->name, e->id, rd_kafka_err2name(err));
    }

    if (e->alone && e->attempts >= r->outbox->conf->max_retries) {
        payment_inflight_move(e, PAYMENT_EVENT_DEAD);
        ngx_payment_fence_soon(r);
        return;
    }

    e->alone = 0;
    e->since_ns = now_ns;
    payment_inflight_move(e, PAYMENT_EVENT_REFUSED);
}


void
ngx_payment_relay_buried(ngx_payment_relay_t *r, payment_event_t *e)
{
    uint64_t          payment;
    payment_event_t  *other, *next;

    payment = e->payment;

    if (r->outbox->conf->dead_letter == NGX_PAYMENT_DEAD_DIVERT) {
        ngx_payment_relay_forget(r, e);
        return;
    }

    /* its payment's later events follow it: those that wait behind it .. */

    for (other = e->occupies ? payment_inflight_vacate(e) : NULL;
         other;
         other = next)
    {
        next = payment_inflight_vacate(other);
        ngx_payment_relay_follow(other);
    }

    ngx_payment_relay_forget(r, e);

    /* .. those that were read and are ready .. */

    for (other = payment_inflight_first(&r->table, PAYMENT_EVENT_READY);
         other;
         other = next)
    {
        next = other->next;

        if (other->payment == payment) {
            ngx_payment_relay_follow(other);
        }
    }

    /* .. and those that are not read yet */

    ngx_payment_reader_dead(r);
}


static void
ngx_payment_relay_follow(payment_event_t *e)
{
    payment_inflight_free_data(e);
    e->follower = 1;
    payment_inflight_move(e, PAYMENT_EVENT_DEAD);
}


void
ngx_payment_relay_vanished(ngx_payment_relay_t *r, payment_event_t *e)
{
    ngx_log_error(NGX_LOG_INFO, r->log, 0,
                  "payment outbox: shard \"%V\": event %uL is gone",
                  &r->shard->name, e->id);

    ngx_payment_relay_forget(r, e);
}


/* An event's row may still be shown by the read that is under way. */

static void
ngx_payment_relay_forget(ngx_payment_relay_t *r, payment_event_t *e)
{
    if (e->occupies) {
        (void) payment_inflight_vacate(e);
    }

    if (e->state == PAYMENT_EVENT_DELETING && r->reader.busy) {
        payment_inflight_move(e, PAYMENT_EVENT_GONE);
        return;
    }

    payment_inflight_remove(e);
}


/* beginning again */

void
ngx_payment_relay_rewind(ngx_payment_relay_t *r)
{
    if (r->state == NGX_PAYMENT_RELAY_STOPPED
        || r->state == NGX_PAYMENT_RELAY_ENDED)
    {
        return;
    }

    if (r->state == NGX_PAYMENT_RELAY_RUNNING) {
        (void) ngx_atomic_fetch_add(&r->stats->rewinds, 1);
        r->state = NGX_PAYMENT_RELAY_REWINDING;

        ngx_payment_relay_forget_unsent(r);
        ngx_payment_reader_rewind(r);
    }

    if (payment_inflight_count(&r->table, PAYMENT_EVENT_SENT) == 0) {
        ngx_payment_relay_rewound(r);
    }
}


static void
ngx_payment_relay_forget_unsent(ngx_payment_relay_t *r)
{
    payment_event_t  *e, *next;

    /* those that are to be tried again keep what they have against them */

    for (e = payment_inflight_first(&r->table, PAYMENT_EVENT_WANTED);
         e;
         e = next)
    {
        next = e->next;

        if (e->attempts) {
            e->asked = 0;
            payment_inflight_move(e, PAYMENT_EVENT_REFUSED);
        }
    }

    payment_inflight_forget_unsent(&r->table);
}


static void
ngx_payment_relay_rewound(ngx_payment_relay_t *r)
{
    uint64_t  wait;

    if (r->anew) {
        payment_inflight_forget(&r->table);

    } else if (r->doubt) {
        ngx_payment_relay_doubt(r);
    }

    r->anew = 0;
    r->doubt = 0;

    if (r->fence.lease.state != PAYMENT_LEASE_HELD
        && r->fence.lease.state != PAYMENT_LEASE_DRAINING)
    {
        r->state = NGX_PAYMENT_RELAY_STOPPED;
        return;
    }

    wait = 0;

    if (r->failures) {
        wait = NGX_PAYMENT_BACKOFF_MIN_NS << ngx_min(r->failures - 1, 5);
        wait = ngx_min(wait, NGX_PAYMENT_BACKOFF_MAX_NS);
    }

    r->resume_at_ns = ngx_payment_clock_ns() + wait;
    r->state = NGX_PAYMENT_RELAY_RUNNING;

    ngx_payment_reader_rewind(r);
    ngx_payment_reader_soon(r);
}


static void
ngx_payment_relay_doubt(ngx_payment_relay_t *r)
{
    ngx_uint_t        i;
    payment_event_t  *e;

    static const payment_event_state_e  troubled[] = {
        PAYMENT_EVENT_REFUSED, PAYMENT_EVENT_SUSPECT, PAYMENT_EVENT_DEAD
    };

    for (i = 0; i < sizeof(troubled) / sizeof(troubled[0]); i++) {
        while ((e = payment_inflight_first(&r->table, troubled[i])) != NULL) {
            ngx_payment_relay_forget(r, e);
        }
    }

    while ((e = payment_inflight_first(&r->table, PAYMENT_EVENT_ACKED))
           != NULL)
    {
        payment_inflight_move(e, PAYMENT_EVENT_UNSURE);
    }
}


ngx_int_t
ngx_payment_relay_verify(ngx_payment_relay_t *r, payment_event_t *e,
    uint64_t payment, uint32_t version)
{
    if (e->payment == payment && e->version == version) {
        payment_inflight_move(e, PAYMENT_EVENT_ACKED);
        ngx_payment_fence_acked(r);
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_WARN, r->log, 0,
                  "payment outbox: shard \"%V\": the database has lost event "
                  "%uL, which was published, and given its id to another",
                  &r->shard->name, e->id);

    payment_inflight_remove(e);

    return NGX_DECLINED;
}


void
ngx_payment_relay_verified(ngx_payment_relay_t *r)
{
    payment_event_t  *e;

    while ((e = payment_inflight_first(&r->table, PAYMENT_EVENT_UNSURE))
           != NULL)
    {
        /* deleted by a transaction whose answer was lost, or lost itself */
        payment_inflight_remove(e);
    }
}


void
ngx_payment_relay_abandoned(ngx_payment_relay_t *r)
{
    payment_event_t  *e;

    while ((e = payment_inflight_first(&r->table, PAYMENT_EVENT_SENT))
           != NULL)
    {
        ngx_payment_relay_report(r, e, NGX_PAYMENT_VERDICT_UNSENT,
                                 RD_KAFKA_RESP_ERR__DESTROY);
    }
}


/* time */

void
ngx_payment_relay_tick(ngx_payment_relay_t *r, uint64_t now_ns)
{
    payment_inflight_t  *t;

    t = &r->table;

    ngx_payment_relay_retry(r, now_ns);

    if (!r->reader.busy && !r->reader.timer.timer_set) {
        ngx_payment_reader_next(r);
    }

    ngx_payment_relay_pump(r);
    ngx_payment_fence_next(r);

    if (r->state == NGX_PAYMENT_RELAY_RUNNING) {
        r->stats->backlog = r->reader.beyond
                            + payment_inflight_count(t, PAYMENT_EVENT_WANTED)
                            + payment_inflight_count(t, PAYMENT_EVENT_READY)
                            + payment_inflight_count(t, PAYMENT_EVENT_HELD)
                            + payment_inflight_count(t, PAYMENT_EVENT_SENT)
                            + payment_inflight_count(t, PAYMENT_EVENT_REFUSED)
                            + payment_inflight_count(t, PAYMENT_EVENT_SUSPECT);
    }
}


/* what was refused is read again when its time has come */

static void
ngx_payment_relay_retry(ngx_payment_relay_t *r, uint64_t now_ns)
{
    payment_event_t  *e;

    while (payment_inflight_count(&r->table, PAYMENT_EVENT_WANTED)
           + payment_inflight_count(&r->table, PAYMENT_EVENT_SUSPECT)
           < NGX_PAYMENT_SUSPECTS_MAX)
    {
        e = payment_inflight_first(&r->table, PAYMENT_EVENT_REFUSED);

        if (e == NULL
            || now_ns - e->since_ns
               < r->outbox->conf->retry_interval * 1000000ULL
            || r->state != NGX_PAYMENT_RELAY_RUNNING)
        {
            return;
        }

        payment_inflight_move(e, PAYMENT_EVENT_WANTED);
    }
}


void
ngx_payment_relay_tell_breaker(ngx_payment_relay_t *r, uint64_t now_ns,
    ngx_uint_t failed)
{
    uint64_t               slow;
    payment_event_t       *e;
    ngx_payment_outbox_t  *o;

    o = r->outbox;
    slow = o->conf->breaker.slow_call_duration_threshold_ns;

    for (e = payment_inflight_first(&r->table, PAYMENT_EVENT_SENT);
         e && (failed || now_ns - e->since_ns > slow);
         e = e->next)
    {
        ngx_payment_outbox_result(o, now_ns, e, failed
                                                ? PAYMENT_BREAKER_FAILURE
                                                : PAYMENT_BREAKER_SUCCESS);
    }
}


/* the end */

void
ngx_payment_relay_stop(ngx_payment_relay_t *r)
{
    ngx_payment_relay_forget_unsent(r);
    payment_lease_stop(&r->fence.lease, ngx_payment_clock_ms());

    r->fence.delete_due = 1;
    ngx_payment_fence_next(r);
}


void
ngx_payment_relay_close(ngx_payment_relay_t *r)
{
    r->state = NGX_PAYMENT_RELAY_ENDED;
    r->stats->lease_held = 0;
    r->stats->in_flight = 0;

    if (r->reader.timer.timer_set) {
        ngx_del_timer(&r->reader.timer);
    }

    if (r->fence.timer.timer_set) {
        ngx_del_timer(&r->fence.timer);
    }

    if (r->fence.delete_timer.timer_set) {
        ngx_del_timer(&r->fence.delete_timer);
    }

    if (r->reader.kick.posted) {
        ngx_delete_posted_event(&r->reader.kick);
    }

    if (r->fence.kick.posted) {
        ngx_delete_posted_event(&r->fence.kick);
    }

    ngx_payment_db_close(&r->reader.db);
    ngx_payment_db_close(&r->fence.db);

    r->reader.busy = 0;
}


void
ngx_payment_relay_db_error(ngx_payment_relay_t *r, const char *phase,
    ngx_uint_t error, const char *message)
{
    if (r->last_error == error) {
        return;
    }

    r->last_error = error;

    ngx_log_error(NGX_LOG_ERR, r->log, 0,
                  "payment outbox: shard \"%V\": %s failed: (%ui) %s",
                  &r->shard->name, phase, error, message);
}
