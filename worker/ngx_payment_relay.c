/*
 * What becomes of the events of one shard; see ngx_payment_relay.h.
 *
 * A failure that is not the event's own (an outage) ends the round: nothing
 * more is handed out, what is in flight reports, and reading begins again at
 * the head of the table.  What Kafka has stays known until it is deleted, so
 * nothing is sent a second time that was acknowledged.
 *
 * A failure that is the event's own may be that of another in its batch, which
 * the broker refuses as a whole.  A batch is of one partition.  So the event is
 * tried again with nothing else in its lane, and only one that failed alone
 * becomes a dead letter.
 */

#include "ngx_payment_relay.h"
#include "ngx_payment_clock.h"
#include "ngx_payment_storm.h"


#define NGX_PAYMENT_RELAY_BACKOFF_MIN_NS   (100 * 1000000ULL)
#define NGX_PAYMENT_RELAY_BACKOFF_MAX_NS   (2000 * 1000000ULL)
#define NGX_PAYMENT_RELAY_ATTEMPTS_MAX  1000 /* counted of an event */
#define NGX_PAYMENT_RELAY_READ_AGE    1000   /* ms: nothing waits, by a read */
#define NGX_PAYMENT_RELAY_READ_STALE  10000  /* ms: nothing can be read */
#define NGX_PAYMENT_RELAY_UNABLE      4      /* times at_most: relay_able() */
#define NGX_PAYMENT_RELAY_UNFIT       1000   /* ms between two of give_up() */
#define NGX_PAYMENT_RELAY_SCOUTS      4      /* of a lane that takes none */
#define NGX_PAYMENT_RELAY_PAST        4096   /* events passed by, at most */
#define NGX_PAYMENT_RELAY_PAST_SHARE  4      /* and a part of the table */
#define NGX_PAYMENT_RELAY_PASSED_BY   10000  /* ms: then they have their turn */
#define NGX_PAYMENT_RELAY_UNDELETED   (2 * NGX_PAYMENT_FENCE_IDS_MAX)
                                             /* acknowledged: no more is sent */
#define NGX_PAYMENT_RELAY_SUSPECTS    64     /* read again at a time */
#define NGX_PAYMENT_RELAY_ALONE       16     /* before others have a turn */


static void ngx_payment_relay_init_jobs(ngx_payment_relay_t *r);

static void ngx_payment_relay_connected(void *data, ngx_payment_db_t *db,
    ngx_uint_t again);
static void ngx_payment_relay_unfit(void *data);
static void ngx_payment_relay_leased(void *data);
static void ngx_payment_relay_unleased(void *data);
static void ngx_payment_relay_reading(void *data);
static void ngx_payment_relay_read(void *data);
static void ngx_payment_relay_overrun(void *data);
static void ngx_payment_relay_deleted(void *data);
static void ngx_payment_relay_moved(void *data);
static ngx_uint_t ngx_payment_relay_replaying(void *data);
static void ngx_payment_relay_replayed(void *data, ngx_int_t replayed);

static ngx_uint_t ngx_payment_relay_may_send(ngx_payment_relay_t *r,
    uint64_t now_ns);
static void ngx_payment_relay_suspects(ngx_payment_relay_t *r);
static ngx_payment_producer_lane_t *ngx_payment_relay_alone(
    ngx_payment_relay_t *r, payment_event_t *e);
static void ngx_payment_relay_not_alone(ngx_payment_relay_t *r);
static ngx_int_t ngx_payment_relay_queue(ngx_payment_relay_t *r,
    payment_event_t *e);
static void ngx_payment_relay_pass_by(ngx_payment_relay_t *r,
    payment_event_t *e);
static ngx_int_t ngx_payment_relay_send_early(ngx_payment_relay_t *r,
    payment_event_t *e, uint64_t now_ns);
static void ngx_payment_relay_untold(ngx_payment_relay_t *r,
    payment_event_t *e);
static ngx_uint_t ngx_payment_relay_lane_free(ngx_payment_relay_t *r,
    payment_event_t *e, uint64_t now_ns);
static ngx_int_t ngx_payment_relay_send(ngx_payment_relay_t *r,
    payment_event_t *e, uint64_t now_ns);
static void ngx_payment_relay_count_in_flight(ngx_payment_relay_t *r);
static void ngx_payment_relay_undelivered(ngx_payment_relay_t *r,
    payment_event_t *e, rd_kafka_resp_err_t err, uint64_t now_ns,
    uint64_t took_ns);
static void ngx_payment_relay_acked(ngx_payment_relay_t *r,
    payment_event_t *e);
static void ngx_payment_relay_outage(ngx_payment_relay_t *r,
    payment_event_t *e, rd_kafka_resp_err_t err);
static void ngx_payment_relay_failed(ngx_payment_relay_t *r,
    payment_event_t *e, uint64_t now_ns);
static void ngx_payment_relay_refused(ngx_payment_relay_t *r,
    payment_event_t *e, rd_kafka_resp_err_t err, uint64_t now_ns);
static void ngx_payment_relay_tell_refused(ngx_payment_relay_t *r,
    payment_event_t *e, rd_kafka_resp_err_t err);
static const char *ngx_payment_relay_reason(payment_event_t *e);
static void ngx_payment_relay_hold_back(ngx_payment_relay_t *r,
    payment_event_t *e, uint64_t now_ns);
static void ngx_payment_relay_scouts(ngx_payment_relay_t *r,
    payment_event_t *e, ngx_int_t n);
static void ngx_payment_relay_recall_all(ngx_payment_relays_t *all);
static void ngx_payment_relay_forget_unsent(ngx_payment_relay_t *r);
static ngx_uint_t ngx_payment_relay_settled(ngx_payment_relay_t *r);
static void ngx_payment_relay_rewound(ngx_payment_relay_t *r);
static void ngx_payment_relay_doubt(ngx_payment_relay_t *r);
static void ngx_payment_relay_forget_troubled(ngx_payment_relay_t *r);
static void ngx_payment_relay_forget_followers(ngx_payment_relay_t *r);
static void ngx_payment_relay_retry(ngx_payment_relay_t *r, uint64_t now_ns);
static void ngx_payment_relay_show_lease(ngx_payment_relay_t *r,
    uint64_t now_ms);
static ngx_uint_t ngx_payment_relay_able(ngx_payment_relay_t *r,
    uint64_t now_ms);
static ngx_uint_t ngx_payment_relay_backlog(ngx_payment_relay_t *r);
static void ngx_payment_relay_age(ngx_payment_relay_t *r, uint64_t now_ms);


static const ngx_payment_outbox_shard_handlers_t  ngx_payment_relay_handlers = {
    ngx_payment_relay_connected,
    ngx_payment_relay_unfit,
    ngx_payment_relay_leased,
    ngx_payment_relay_unleased,
    ngx_payment_relay_reading,
    ngx_payment_relay_read,
    ngx_payment_relay_overrun,
    ngx_payment_relay_deleted,
    ngx_payment_relay_moved,
    ngx_payment_relay_replaying,
    ngx_payment_relay_replayed
};


ngx_int_t
ngx_payment_relay_init(ngx_payment_relay_t *r, ngx_payment_relays_t *all,
    ngx_payment_shard_t *shard)
{
    size_t                       capacity;
    ngx_payment_outbox_conf_t   *conf;
    ngx_payment_outbox_shard_t  *sh;

    conf = all->conf;
    sh = &r->sh;

    r->all = all;

    sh->conf = conf;
    sh->shard = shard;
    sh->node = &all->node;
    sh->stats = &conf->stats->helper.outbox[shard->index];
    sh->log = all->log;
    sh->handlers = &ngx_payment_relay_handlers;
    sh->data = r;
    sh->state = NGX_PAYMENT_RELAY_STOPPED;

    /* in flight; acknowledged and not yet deleted; read and not yet sent */

    capacity = 2 * conf->max_in_flight
               + 2 * NGX_PAYMENT_READER_GROWTH * conf->batch_size
               + 2 * NGX_PAYMENT_READER_WANTED;

    r->reader.sh = sh;
    r->fence.sh = sh;
    r->lease.sh = sh;
    r->deletion.sh = sh;
    r->dead.sh = sh;
    r->archive.sh = sh;
    r->expiry.sh = sh;
    r->purge.sh = sh;

    r->lease.fence = &r->fence;
    r->deletion.fence = &r->fence;
    r->dead.fence = &r->fence;
    r->archive.fence = &r->fence;
    r->expiry.fence = &r->fence;
    r->purge.fence = &r->fence;

    r->dead.reason = ngx_payment_relay_reason;

    ngx_payment_relay_init_jobs(r);
    ngx_payment_delete_init(&r->deletion);

    if (ngx_payment_outbox_shard_init(sh, capacity) != NGX_OK
        || ngx_payment_reader_init(&r->reader) != NGX_OK
        || ngx_payment_fence_init(&r->fence) != NGX_OK
        || ngx_payment_expiry_init(&r->expiry) != NGX_OK
        || ngx_payment_purge_init(&r->purge) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_payment_relay_init_jobs(ngx_payment_relay_t *r)
{
    /* the most urgent first */

    ngx_payment_fence_job_t  jobs[] = {
        { NGX_PAYMENT_FENCE_ANY, ngx_payment_lease_step,
          ngx_payment_lease_done, &r->lease, 0, 0, 0 },

        { NGX_PAYMENT_FENCE_OURS, ngx_payment_delete_look_step,
          ngx_payment_delete_look_done, &r->deletion, 0, 0, 0 },

        { NGX_PAYMENT_FENCE_OURS, ngx_payment_delete_find_step,
          ngx_payment_delete_find_done, &r->deletion, 0, 0, 0 },

        { NGX_PAYMENT_FENCE_OURS, ngx_payment_delete_step,
          ngx_payment_delete_done, &r->deletion, 0, 0, 0 },

        { NGX_PAYMENT_FENCE_OURS, ngx_payment_dead_step,
          ngx_payment_dead_done, &r->dead, 0, 0, 0 },

        { NGX_PAYMENT_FENCE_HELD, ngx_payment_dead_replay_step,
          ngx_payment_dead_replay_done, &r->dead, 0, 0, 0 },

        { NGX_PAYMENT_FENCE_OURS, ngx_payment_dead_count_step,
          ngx_payment_dead_count_done, &r->dead, 0, 0, 0 },

        { NGX_PAYMENT_FENCE_HELD, ngx_payment_archive_step,
          ngx_payment_archive_done, &r->archive, 0, 0, 0 },

        { NGX_PAYMENT_FENCE_HELD, ngx_payment_expiry_step,
          ngx_payment_expiry_done, &r->expiry, 0, 0, 0 },

        { NGX_PAYMENT_FENCE_HELD, ngx_payment_purge_step,
          ngx_payment_purge_done, &r->purge, 0, 0, 0 }
    };

    ngx_memcpy(r->jobs, jobs, sizeof(jobs));

    r->fence.jobs = r->jobs;
    r->fence.njobs = NGX_PAYMENT_RELAY_JOBS;
}


void
ngx_payment_relay_open(ngx_payment_relay_t *r)
{
    ngx_payment_lease_open(&r->lease);
    ngx_payment_fence_open(&r->fence);
    ngx_payment_reader_open(&r->reader);
}


void
ngx_payment_relay_wake(ngx_payment_relay_t *r)
{
    ngx_payment_reader_wake(&r->reader);
}


/*
 * A payment's first event, of which a worker has told, is sent at once, or else
 * forgotten, and its row is read like any other.  So it never waits for
 * anything while it has no id.
 */

ngx_int_t
ngx_payment_relay_told(ngx_payment_relay_t *r,
    const ngx_payment_news_item_t *item)
{
    uint64_t             id, now;
    payment_event_t     *e;
    ngx_payment_row_t   *row;
    payment_inflight_t  *table;

    table = &r->sh.table;
    now = ngx_payment_clock_ns();

    if (!ngx_payment_reader_listens(&r->reader, now)
        || !ngx_payment_reader_believes(&r->reader, item, now))
    {
        return NGX_DECLINED;
    }

    row = ngx_payment_row_create_told(item, r->sh.log);
    if (row == NULL) {
        return NGX_DECLINED;
    }

    id = ngx_payment_outbox_shard_early_id(row->aggregateid.data,
                                           row->aggregateid.len);

    if (payment_inflight_find(table, id)
        || ngx_payment_proved_has(r->reader.given, id))
    {
        /* its row was quicker */
        ngx_payment_row_free(row);
        return NGX_OK;
    }

    e = payment_inflight_add(table, id, PAYMENT_EVENT_WANTED);
    if (e == NULL) {
        ngx_payment_row_free(row);
        return NGX_DECLINED;
    }

    e->version = row->version;
    e->committed_us = item->commit.answered_us;
    e->payment = payment_inflight_hash(row->aggregateid.data,
                                       row->aggregateid.len);
    e->crc = ngx_crc32_long(row->aggregateid.data, row->aggregateid.len);

    payment_inflight_set_data(e, row, (uint32_t) row->size);

    if (ngx_payment_relay_send_early(r, e, now) != NGX_OK) {
        payment_inflight_remove(e);
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_payment_relay_send_early(ngx_payment_relay_t *r, payment_event_t *e,
    uint64_t now_ns)
{
    ngx_payment_producer_t *producer = &r->all->producer;

    if (!ngx_payment_relay_may_send(r, now_ns)
        || payment_inflight_occupant(e)
        || payment_aside_precedes(&r->sh.aside, e->id, e->payment)
        || ngx_payment_producer_route(producer, e) != NGX_OK
        || !ngx_payment_producer_lanes_take(&r->all->lanes, e)
        || !ngx_payment_relay_lane_free(r, e, now_ns))
    {
        return NGX_DECLINED;
    }

    return ngx_payment_relay_send(r, e, now_ns);
}


/* It was not published, and its row was not seen: that is read. */

static void
ngx_payment_relay_untold(ngx_payment_relay_t *r, payment_event_t *e)
{
    ngx_payment_outbox_shard_vacate(&r->sh, e);
    payment_inflight_remove(e);
    ngx_payment_reader_soon(&r->reader);
}


/* the news of the parts */

/*
 * A server that crashed, or a replica that was promoted, may have lost rows
 * that we know, and may give their ids to others.  So what Kafka has is looked
 * at again before it is deleted, and the rest is read again anyway.
 */

static void
ngx_payment_relay_connected(void *data, ngx_payment_db_t *db,
    ngx_uint_t again)
{
    ngx_payment_relay_t *r = data;

    if (r->server == db->server && !again) {
        return;
    }

    r->server = db->server;

    ngx_payment_relay_doubt(r);
}


/* Both connections leave the server, so that they meet at the next one. */

static void
ngx_payment_relay_unfit(void *data)
{
    ngx_payment_relay_t *r = data;

    uint64_t  now;

    now = ngx_payment_clock_ms();

    /* one that lets itself be connected to is not left again at once */

    if (now < r->give_up_at_ms) {
        return;
    }

    r->give_up_at_ms = now + NGX_PAYMENT_RELAY_UNFIT;

    ngx_payment_fence_give_up(&r->fence);
    ngx_payment_reader_give_up(&r->reader);
}


static void
ngx_payment_relay_leased(void *data)
{
    ngx_payment_relay_t *r = data;

    uint64_t  epoch;

    epoch = r->sh.lease.epoch;

    /*
     * An epoch that follows our last one directly says that nobody had the
     * lease in between: what we know is still so.
     */

    if (epoch != r->last_epoch + 1) {
        ngx_payment_relay_doubt(r);
    }

    r->last_epoch = epoch;

    /* whoever had the lease before may have left dead letters */
    ngx_payment_reader_block(&r->reader);

    r->failures = 0;
    r->fit_at_ms = ngx_payment_clock_ms();

    if (r->sh.state == NGX_PAYMENT_RELAY_STOPPED) {
        ngx_payment_relay_rewound(r);
    }
}


static void
ngx_payment_relay_unleased(void *data)
{
    ngx_payment_relay_t *r = data;

    ngx_memzero(r->sh.gauges, sizeof(ngx_payment_life_gauges_t));
    ngx_payment_relay_count_in_flight(r);

    if (ngx_payment_dead_cancel_replay(&r->dead) == NGX_OK) {
        ngx_payment_command_done(&r->all->command,
                                 NGX_PAYMENT_COMMAND_NOT_HERE);
    }

    ngx_payment_relay_rewind(r);

    /* another may be publishing already: what is queued must not leave */

    if (payment_inflight_count(&r->sh.table, PAYMENT_EVENT_SENT)) {
        ngx_payment_producer_abort(&r->all->producer, 0);
    }
}


static void
ngx_payment_relay_reading(void *data)
{
    ngx_payment_relay_t *r = data;

    r->all->hear(r->all->data);
}


static void
ngx_payment_relay_read(void *data)
{
    ngx_payment_relay_t *r = data;

    ngx_payment_relay_pump(r);

    if (payment_inflight_count(&r->sh.table, PAYMENT_EVENT_ACKED)) {
        ngx_payment_delete_acked(&r->deletion);
    }

    if (payment_inflight_count(&r->sh.table, PAYMENT_EVENT_DEAD)) {
        ngx_payment_fence_soon(&r->fence);
    }
}


static void
ngx_payment_relay_overrun(void *data)
{
    ngx_payment_relay_rewind(data);
}


static void
ngx_payment_relay_deleted(void *data)
{
    ngx_payment_relay_t *r = data;

    ngx_payment_relay_pump(r);
}


static void
ngx_payment_relay_moved(void *data)
{
    ngx_payment_relay_t *r = data;

    ngx_payment_reader_block(&r->reader);
    ngx_payment_relay_pump(r);
}


static ngx_uint_t
ngx_payment_relay_replaying(void *data)
{
    ngx_payment_relay_t *r = data;

    return ngx_payment_command_begin(&r->all->command);
}


static void
ngx_payment_relay_replayed(void *data, ngx_int_t replayed)
{
    ngx_payment_relay_t *r = data;

    ngx_payment_command_done(&r->all->command,
                             replayed == NGX_OK ? NGX_PAYMENT_COMMAND_DONE
                             : replayed == NGX_DECLINED
                               ? NGX_PAYMENT_COMMAND_NOT_FOUND
                               : NGX_PAYMENT_COMMAND_FAILED);

    if (replayed == NGX_OK) {
        /* what was read before knows nothing of the rows that came back, and
         * what was to follow them into the dead letters is free */
        ngx_payment_relay_forget_followers(r);
        ngx_payment_relay_rewind(r);
    }
}


/* handing out */

void
ngx_payment_relay_pump(ngx_payment_relay_t *r)
{
    uint64_t             now;
    payment_event_t     *e, *next;
    payment_inflight_t  *table;

    table = &r->sh.table;
    r->reader.past = 0;
    r->all->pumps++;

    ngx_payment_relay_suspects(r);

    for (e = payment_inflight_first(table, PAYMENT_EVENT_READY); e; e = next) {

        next = e->next;
        now = ngx_payment_clock_ns();

        if (!ngx_payment_relay_may_send(r, now)) {
            break;
        }

        if (!ngx_payment_reader_gate(&r->reader, e)) {
            break;
        }

        if (ngx_payment_relay_queue(r, e) == NGX_OK) {
            continue;
        }

        if (ngx_payment_producer_route(&r->all->producer, e) == NGX_OK) {

            if (!e->scout
                && !ngx_payment_producer_lanes_take(&r->all->lanes, e))
            {
                ngx_payment_relay_hold_back(r, e, now);
                continue;
            }

            if (!ngx_payment_relay_lane_free(r, e, now)) {
                ngx_payment_relay_pass_by(r, e);
                continue;
            }
        }

        if (ngx_payment_relay_send(r, e, now) != NGX_OK) {
            break;
        }
    }

    if (e == NULL && r->reader.past == 0 && r->passed_by) {
        r->sh.astray = 1;
    }

    ngx_payment_reader_more(&r->reader);
}


/*
 * Another event of its payment comes first: this one waits behind it; or is set
 * aside, when many wait there or some are aside already, or when that one is
 * tried again now and then only.  So a payment with many changes, or one that
 * can't be published, takes little of the table, and the others are read past
 * it.
 */

static ngx_int_t
ngx_payment_relay_queue(ngx_payment_relay_t *r, payment_event_t *e)
{
    payment_event_t             *occupant;
    ngx_payment_outbox_shard_t  *sh;

    sh = &r->sh;

    if (payment_aside_precedes(&sh->aside, e->id, e->payment)) {
        /* or it stays here, when there is no room */
        (void) ngx_payment_outbox_shard_set_aside(sh, e);
        return NGX_OK;
    }

    occupant = payment_inflight_occupant(e);

    if (occupant == NULL || occupant == e) {
        return NGX_DECLINED;
    }

    if ((occupant->queued >= NGX_PAYMENT_OUTBOX_BEHIND
         || occupant->state == PAYMENT_EVENT_REFUSED)
        && ngx_payment_outbox_shard_set_aside(sh, e) == NGX_OK)
    {
        return NGX_OK;
    }

    payment_inflight_queue(occupant, e);

    return NGX_OK;
}


/*
 * Its lane has no room, and others are looked for behind it: but none of its
 * payment, which may go to another topic.  A lane may have half as many events
 * that are passed by as there is room left for all lanes, so that there always
 * is some for a lane that is full for a moment only.  The others are set aside;
 * they are read again when none is passed by any more, and after some time at
 * the latest.
 */

static void
ngx_payment_relay_pass_by(ngx_payment_relay_t *r, payment_event_t *e)
{
    size_t                        most;
    ngx_payment_producer_lane_t  *lane;

    most = ngx_min(NGX_PAYMENT_RELAY_PAST,
                   r->sh.table.capacity / NGX_PAYMENT_RELAY_PAST_SHARE);

    lane = ngx_payment_producer_lanes_of(&r->all->lanes, e);

    if (lane->pump != r->all->pumps) {
        lane->pump = r->all->pumps;
        lane->past = 0;
    }

    if (r->reader.past + 2 * lane->past >= most
        && ngx_payment_outbox_shard_set_aside(&r->sh, e) == NGX_OK)
    {
        if (!r->passed_by) {
            r->passed_by = 1;
            r->passed_by_at_ms = ngx_payment_clock_ms();
        }

        return;
    }

    payment_inflight_occupy(e);
    r->reader.past++;
    lane->past++;
}


/*
 * Has its lane room for it?  A probe of a breaker that is HALF_OPEN is the only
 * event of its lane: so probes are of distinct partitions, and one that fails
 * can't turn the order of a key's events round.
 */

static ngx_uint_t
ngx_payment_relay_lane_free(ngx_payment_relay_t *r, payment_event_t *e,
    uint64_t now_ns)
{
    ngx_payment_relays_t         *all;
    ngx_payment_producer_lane_t  *lane;

    all = r->all;
    lane = ngx_payment_producer_lanes_of(&all->lanes, e);

    return lane->alone == NULL
           && ngx_payment_producer_lanes_have_room_in(&all->lanes, lane, now_ns)
           && (lane->in_flight == 0
               || !ngx_payment_breaker_probing(&all->breaker));
}


/*
 * An event that is handed out must be delivered or given up before the lease
 * can have run out: hence the producer's timeout.  And what Kafka has is to be
 * deleted: were this helper killed, all of it would be published again.
 */

static ngx_uint_t
ngx_payment_relay_may_send(ngx_payment_relay_t *r, uint64_t now_ns)
{
    ngx_payment_relays_t       *all;
    ngx_payment_outbox_conf_t  *conf;

    all = r->all;
    conf = all->conf;

    return r->sh.state == NGX_PAYMENT_RELAY_RUNNING
           && payment_inflight_count(&r->sh.table, PAYMENT_EVENT_ACKED)
              + payment_inflight_count(&r->sh.table, PAYMENT_EVENT_DELETING)
              + payment_inflight_count(&r->sh.table, PAYMENT_EVENT_UNSURE)
              + payment_inflight_count(&r->sh.table, PAYMENT_EVENT_EARLY)
              < NGX_PAYMENT_RELAY_UNDELETED
           && !conf->stats->helper.paused
           && now_ns >= r->resume_at_ns
           && payment_inflight_count(&r->sh.table, PAYMENT_EVENT_SENT)
              < conf->max_in_flight
           && ngx_payment_producer_has_room(&all->producer, now_ns)
           && payment_lease_remaining(&r->sh.lease, now_ns / 1000000)
              > all->producer.timeout;
}


/*
 * Suspects are sent one at a time in each lane, with nothing else on the way
 * there, also of other relays.  After some of them the lane is everybody's for
 * one pump.
 */

static void
ngx_payment_relay_suspects(ngx_payment_relay_t *r)
{
    uint64_t                      now;
    payment_event_t              *e, *next;
    ngx_payment_producer_t       *producer;
    ngx_payment_producer_lane_t  *lane;

    producer = &r->all->producer;

    ngx_payment_relay_not_alone(r);

    for (e = payment_inflight_first(&r->sh.table, PAYMENT_EVENT_SUSPECT);
         e;
         e = next)
    {
        next = e->next;
        now = ngx_payment_clock_ns();

        (void) ngx_payment_producer_route(producer, e);

        if (!ngx_payment_producer_lanes_take(&r->all->lanes, e) && !e->scout) {
            /* not where it would keep the lane for itself and not be taken */
            e->since_ns = now;
            payment_inflight_move(e, PAYMENT_EVENT_REFUSED);
            continue;
        }

        if (!ngx_payment_relay_may_send(r, now)) {
            return;
        }

        lane = ngx_payment_relay_alone(r, e);

        if (lane == NULL || lane->in_flight) {
            continue;
        }

        e->alone = 1;
        lane->tried++;

        if (ngx_payment_relay_send(r, e, now) != NGX_OK) {
            ngx_payment_relay_not_alone(r);
            return;
        }
    }
}


/* The suspect's lane, if it is this relay's alone; or NULL, as when it has been
 * everybody's in this pump already. */

static ngx_payment_producer_lane_t *
ngx_payment_relay_alone(ngx_payment_relay_t *r, payment_event_t *e)
{
    ngx_payment_producer_lane_t  *lane;

    lane = ngx_payment_producer_lanes_of(&r->all->lanes, e);

    if (lane->alone == r) {
        return lane;
    }

    if (lane->alone || lane->pump == r->all->pumps) {
        return NULL;
    }

    if (lane->tried >= NGX_PAYMENT_RELAY_ALONE) {
        lane->tried = 0;
        lane->pump = r->all->pumps;
        lane->past = 0;
        return NULL;
    }

    lane->alone = r;
    r->alone++;

    return lane;
}


/* Its lanes are everybody's again, but for those in which an event is on its
 * way: with another one beside it, it would not have been tried alone. */

static void
ngx_payment_relay_not_alone(ngx_payment_relay_t *r)
{
    ngx_uint_t                     i, n;
    ngx_payment_producer_topic_t  *topic;

    for (i = 0; r->alone && i < r->all->lanes.ntopics; i++) {
        topic = &r->all->lanes.topics[i];

        for (n = 0; n < NGX_PAYMENT_PRODUCER_LANES; n++) {
            if (topic->lanes[n].alone == r && topic->lanes[n].in_flight == 0) {
                topic->lanes[n].alone = NULL;
                r->alone--;
            }
        }
    }
}


/* NGX_DECLINED: not now, and nor any other event. */

static ngx_int_t
ngx_payment_relay_send(ngx_payment_relay_t *r, payment_event_t *e,
    uint64_t now_ns)
{
    ngx_payment_send_e     rc;
    rd_kafka_resp_err_t    err;
    ngx_payment_relays_t  *all;

    all = r->all;

    if (!ngx_payment_breaker_permit(&all->breaker, now_ns, e)) {
        return NGX_DECLINED;
    }

    /* before the library has it: whoever kills this helper meanwhile counts one
     * too many, and not one too few */

    r->sh.gauges->in_flight = 1 + payment_inflight_count(&r->sh.table,
                                                         PAYMENT_EVENT_SENT);

    rc = ngx_payment_producer_send(&all->producer, e, r->sh.lease.epoch, &err);

    if (rc != NGX_PAYMENT_SEND_OK) {
        ngx_payment_relay_count_in_flight(r);
    }

    switch (rc) {

    case NGX_PAYMENT_SEND_OK:
        e->scout = 0;
        e->excused = !ngx_payment_producer_lanes_take(&all->lanes, e);
        e->unproven = all->producer.topic_for_each_type
                      && all->lanes.topics[e->topic].deliveries == 0;
        e->first = ngx_payment_producer_connects(&all->producer, now_ns)
                   && !ngx_payment_breaker_probing(&all->breaker);
        payment_inflight_free_data(e);
        payment_inflight_occupy(e);
        payment_inflight_move(e, PAYMENT_EVENT_SENT);
        ngx_payment_relay_count_in_flight(r);
        return NGX_OK;

    case NGX_PAYMENT_SEND_REFUSED:
        /* by the library, which looks at this event alone */
        e->alone = 1;
        ngx_payment_breaker_result(&all->breaker, now_ns, e, 0,
                                   PAYMENT_BREAKER_IGNORED);
        payment_inflight_occupy(e);
        ngx_payment_relay_refused(r, e, err, now_ns);
        return NGX_OK;

    case NGX_PAYMENT_SEND_SHUT:
        ngx_payment_breaker_unpermit(&all->breaker, e);
        ngx_payment_producer_topic_shut(&all->lanes.topics[e->topic], err,
                                        r->sh.log);
        ngx_payment_relay_hold_back(r, e, now_ns);
        return NGX_OK;

    default:
        ngx_payment_breaker_unpermit(&all->breaker, e);
        return NGX_DECLINED;
    }
}


/* hearing of it */

void
ngx_payment_relay_report(ngx_payment_relay_t *r, payment_event_t *e,
    ngx_payment_verdict_e verdict, rd_kafka_resp_err_t err)
{
    uint64_t                now, took;
    ngx_int_t               takes;
    ngx_payment_breaker_t  *breaker;

    breaker = &r->all->breaker;
    now = ngx_payment_clock_ns();
    took = ngx_payment_producer_lanes_time(&r->all->lanes, now) - e->since_ns;

    if (e->doubted && verdict != NGX_PAYMENT_VERDICT_DELIVERED) {
        /* what would be kept of it may be of another row */
        verdict = NGX_PAYMENT_VERDICT_UNSENT;
    }

    if (verdict != NGX_PAYMENT_VERDICT_DELIVERED
        && verdict != NGX_PAYMENT_VERDICT_UNSENT)
    {
        (void) ngx_atomic_fetch_add(&r->sh.stats->failed, 1);
    }

    switch (verdict) {

    case NGX_PAYMENT_VERDICT_DELIVERED:
        ngx_payment_breaker_result(breaker, now, e, took,
                                   e->excused ? PAYMENT_BREAKER_IGNORED
                                              : PAYMENT_BREAKER_SUCCESS);
        r->worked_at_ms = now / 1000000;

        /* before the event's since_ns means something else than its sending */
        takes = ngx_payment_producer_lanes_delivered(&r->all->lanes, e, now);
        ngx_payment_relay_acked(r, e);

        if (takes == NGX_OK) {
            ngx_payment_relay_recall_all(r->all);
        }

        break;

    case NGX_PAYMENT_VERDICT_FAILED:
        ngx_payment_relay_undelivered(r, e, err, now, took);
        break;

    case NGX_PAYMENT_VERDICT_FAILED_ITSELF:
        ngx_payment_breaker_result(breaker, now, e, took,
                                   PAYMENT_BREAKER_IGNORED);
        ngx_payment_relay_refused(r, e, err, now);
        break;

    case NGX_PAYMENT_VERDICT_FAILED_TOPIC:
        ngx_payment_breaker_result(breaker, now, e, took,
                                   PAYMENT_BREAKER_IGNORED);
        ngx_payment_producer_topic_shut(&r->all->lanes.topics[e->topic],
                                        err, r->sh.log);
        ngx_payment_relay_hold_back(r, e, now);
        break;

    default: /* NGX_PAYMENT_VERDICT_UNSENT */
        ngx_payment_breaker_unpermit(breaker, e);

        if (e->excused && !e->doubted) {
            /* it waits for its lane again, and no other event for it */
            ngx_payment_relay_hold_back(r, e, now);
        } else {
            ngx_payment_relay_failed(r, e, now);
        }

        break;
    }

    ngx_payment_relay_count_in_flight(r);

    if (r->sh.state == NGX_PAYMENT_RELAY_REWINDING
        && ngx_payment_relay_settled(r))
    {
        ngx_payment_relay_rewound(r);
    }
}


/* At once, since whoever kills this helper would know how many events may come
 * again. */

static void
ngx_payment_relay_count_in_flight(ngx_payment_relay_t *r)
{
    r->sh.gauges->in_flight = payment_inflight_count(&r->sh.table,
                                                     PAYMENT_EVENT_SENT);
}


/* Its lane may be the reason, or Kafka. */

static void
ngx_payment_relay_undelivered(ngx_payment_relay_t *r, payment_event_t *e,
    rd_kafka_resp_err_t err, uint64_t now_ns, uint64_t took_ns)
{
    ngx_payment_breaker_t  *breaker;

    breaker = &r->all->breaker;

    if (!e->excused
        && ngx_payment_producer_lanes_blamed(&r->all->lanes, e, err))
    {
        ngx_payment_relay_excuse_all(r->all);
        e->excused = 1;
    }

    if (e->excused) {
        ngx_payment_breaker_result(breaker, now_ns, e, took_ns,
                                   PAYMENT_BREAKER_IGNORED);
        ngx_payment_relay_hold_back(r, e, now_ns);
        return;
    }

    /* that a broker has refused a request and taken the next says nothing of
     * the next ones */

    ngx_payment_breaker_result(breaker, now_ns, e, took_ns,
                               err == RD_KAFKA_RESP_ERR__INCONSISTENT
                               ? PAYMENT_BREAKER_IGNORED
                               : PAYMENT_BREAKER_FAILURE);
    ngx_payment_relay_outage(r, e, err);
    ngx_payment_relay_failed(r, e, now_ns);
}


static void
ngx_payment_relay_acked(ngx_payment_relay_t *r, payment_event_t *e)
{
    uint64_t  us;

    us = ngx_payment_unix_us();
    us = (us > e->committed_us) ? us - e->committed_us : 0;

    ngx_payment_histogram_add(&r->all->conf->stats->helper.commit_to_ack, us);

    (void) ngx_atomic_fetch_add(&r->sh.stats->published, 1);

    r->failures = 0;

    ngx_payment_outbox_shard_vacate(&r->sh, e);

    if (payment_inflight_is_early(e)) {
        e->since_ns = ngx_payment_clock_ns();
        payment_inflight_move(e, PAYMENT_EVENT_EARLY);
        return;
    }

    payment_inflight_move(e, e->doubted ? PAYMENT_EVENT_UNSURE
                                        : PAYMENT_EVENT_ACKED);

    ngx_payment_delete_acked(&r->deletion);
}


/* The first failure ends the round, and is logged; a round may be short. */

static void
ngx_payment_relay_outage(ngx_payment_relay_t *r, payment_event_t *e,
    rd_kafka_resp_err_t err)
{
    const char  *note;

    if (r->sh.state != NGX_PAYMENT_RELAY_RUNNING) {
        return;
    }

    r->failures++;
    note = ngx_payment_storm_note(&r->outages, (ngx_uint_t) (uint16_t) err);

    if (note == NULL) {
        return;
    }

    ngx_log_error(NGX_LOG_ERR, r->sh.log, 0,
                  "payment outbox: shard \"%V\": delivery to topic \"%s\" "
                  "failed: %s, %ui events in flight; beginning again at event "
                  "%uL or before%s", &r->sh.shard->name,
                  r->all->lanes.topics[e->topic].name,
                  rd_kafka_err2name(err),
                  payment_inflight_count(&r->sh.table, PAYMENT_EVENT_SENT),
                  payment_inflight_is_early(e) ? r->reader.cursor : e->id,
                  note);
}


/* Not sent, and nothing of its own is the reason. */

static void
ngx_payment_relay_failed(ngx_payment_relay_t *r, payment_event_t *e,
    uint64_t now_ns)
{
    ngx_payment_relay_rewind(r);

    if (payment_inflight_is_early(e)) {
        ngx_payment_relay_untold(r, e);
        return;
    }

    if (e->attempts && !e->doubted) {
        /* that it was refused before is not forgotten */
        e->since_ns = now_ns;
        e->alone = 0;
        payment_inflight_move(e, PAYMENT_EVENT_REFUSED);
        return;
    }

    ngx_payment_outbox_shard_forget(&r->sh, e);
}


/* It failed for its own sake, or for that of another in its batch. */

static void
ngx_payment_relay_refused(ngx_payment_relay_t *r, payment_event_t *e,
    rd_kafka_resp_err_t err, uint64_t now_ns)
{
    ngx_payment_producer_topic_t  *topic;

    if (payment_inflight_is_early(e)) {
        ngx_payment_relay_untold(r, e);
        return;
    }

    topic = &r->all->lanes.topics[e->topic];

    payment_inflight_free_data(e);

    if (e->attempts == 0) {
        e->mark = topic->deliveries;
    }

    if (e->alone) {
        ngx_payment_producer_topic_doubt(topic, e->payment, err, r->sh.log);
    }

    /* trying an event again that is refused for its own sake is work, or its
     * tries would begin anew with the next holder */

    if (topic->state == NGX_PAYMENT_TOPIC_WELL) {
        r->worked_at_ms = now_ns / 1000000;
    }

    e->attempts = ngx_min(e->attempts + 1, NGX_PAYMENT_RELAY_ATTEMPTS_MAX);
    e->reason = (uint16_t) (int16_t) err;

    if (e->attempts <= 2 && topic->state == NGX_PAYMENT_TOPIC_WELL) {
        ngx_payment_relay_tell_refused(r, e, err);
    }

    /* the topic took another event since, or it is this payment alone */

    if (e->alone && e->attempts >= r->all->conf->max_retries
        && (topic->deliveries != e->mark
            || topic->state == NGX_PAYMENT_TOPIC_WELL))
    {
        /* this may be the last one that tried its lane for those aside */
        r->sh.astray |= (r->sh.aside.n
                         && !ngx_payment_producer_lanes_take(&r->all->lanes,
                                                             e));

        payment_inflight_move(e, PAYMENT_EVENT_DEAD);
        ngx_payment_fence_soon(&r->fence);
        return;
    }

    e->alone = 0;
    e->since_ns = now_ns;
    payment_inflight_move(e, PAYMENT_EVENT_REFUSED);
    ngx_payment_outbox_shard_set_aside_behind(&r->sh, e);
}


/* Of those that were refused together, all may be fine: it can be the batch
 * that is too large.  One that was sent alone is not. */

static void
ngx_payment_relay_tell_refused(ngx_payment_relay_t *r, payment_event_t *e,
    rd_kafka_resp_err_t err)
{
    ngx_uint_t   level;
    const char  *note;

    level = e->alone ? NGX_LOG_WARN : NGX_LOG_NOTICE;
    note = ngx_payment_storm_note(&r->refusals,
                                  2 * (ngx_uint_t) (uint16_t) err + e->alone);

    if (note) {
        ngx_log_error(level, r->sh.log, 0,
                      "payment outbox: shard \"%V\": event %uL was refused by "
                      "topic \"%s\", %s, and will be tried %s%s",
                      &r->sh.shard->name, e->id,
                      r->all->lanes.topics[e->topic].name,
                      rd_kafka_err2name(err),
                      e->alone ? "again" : "alone", note);
    }
}


/*
 * An event whose topic or lane takes none waits with nothing against it.  A few
 * of each lane keep their payments' places, and one of them is sent now and
 * then; the others are set aside, however many they are.  When the topic or the
 * lane takes events again, all of that is forgotten, and found again in order
 * at the head of the table.
 */

static void
ngx_payment_relay_hold_back(ngx_payment_relay_t *r, payment_event_t *e,
    uint64_t now_ns)
{
    if (payment_inflight_is_early(e)) {
        ngx_payment_relay_untold(r, e);
        return;
    }

    payment_inflight_free_data(e);

    e->alone = 0;
    e->scout = 0;

    if (e->attempts == 0
        && r->scouts[e->topic][e->lane] >= NGX_PAYMENT_RELAY_SCOUTS
        && !ngx_payment_producer_lanes_take(&r->all->lanes, e)
        && ngx_payment_outbox_shard_set_aside(&r->sh, e) == NGX_OK)
    {
        return;
    }

    payment_inflight_occupy(e);
    e->since_ns = now_ns;
    payment_inflight_move(e, PAYMENT_EVENT_REFUSED);
    ngx_payment_outbox_shard_set_aside_behind(&r->sh, e);
    ngx_payment_relay_scouts(r, e, 1);
}


/* An event that waits for its topic or lane alone is a scout, or no longer. */

static void
ngx_payment_relay_scouts(ngx_payment_relay_t *r, payment_event_t *e,
    ngx_int_t n)
{
    if (e->attempts == 0) {
        r->scouts[e->topic][e->lane] += n;
    }
}


static void
ngx_payment_relay_recall_all(ngx_payment_relays_t *all)
{
    ngx_uint_t  i;

    for (i = 0; i < all->n; i++) {
        ngx_payment_relay_recall(&all->relays[i]);
    }
}


void
ngx_payment_relay_recall(ngx_payment_relay_t *r)
{
    ngx_uint_t        n;
    payment_event_t  *e, *next;

    ngx_payment_relay_excuse(r);

    n = r->sh.aside.n;

    for (e = payment_inflight_first(&r->sh.table, PAYMENT_EVENT_REFUSED);
         e;
         e = next)
    {
        next = e->next;

        if (e->attempts == 0
            && ngx_payment_producer_lanes_take(&r->all->lanes, e))
        {
            ngx_payment_relay_scouts(r, e, -1);
            ngx_payment_outbox_shard_forget(&r->sh, e);
            n++;
        }
    }

    if (n) {
        ngx_payment_relay_rewind(r);
    }
}


/* why an event was refused, for its dead letter */

static const char *
ngx_payment_relay_reason(payment_event_t *e)
{
    return rd_kafka_err2name((rd_kafka_resp_err_t) (int16_t) e->reason);
}


void
ngx_payment_relay_abandoned(ngx_payment_relay_t *r)
{
    payment_event_t  *e;

    while ((e = payment_inflight_first(&r->sh.table, PAYMENT_EVENT_SENT))
           != NULL)
    {
        ngx_payment_relay_report(r, e, NGX_PAYMENT_VERDICT_UNSENT,
                                 RD_KAFKA_RESP_ERR__DESTROY);
    }
}


/* beginning again */

void
ngx_payment_relay_rewind(ngx_payment_relay_t *r)
{
    if (r->sh.state == NGX_PAYMENT_RELAY_STOPPED
        || r->sh.state == NGX_PAYMENT_RELAY_ENDED)
    {
        return;
    }

    if (r->sh.state == NGX_PAYMENT_RELAY_RUNNING) {
        (void) ngx_atomic_fetch_add(&r->sh.stats->rewinds, 1);
        r->sh.state = NGX_PAYMENT_RELAY_REWINDING;

        ngx_payment_relay_forget_unsent(r);
        ngx_payment_reader_rewind(&r->reader);
    }

    if (ngx_payment_relay_settled(r)) {
        ngx_payment_relay_rewound(r);
    }
}


/*
 * Is nothing in flight that must be waited for?  What is in a lane that is
 * stuck stays known, and does no harm there; unless ids may mean other rows
 * now.
 */

static ngx_uint_t
ngx_payment_relay_settled(ngx_payment_relay_t *r)
{
    payment_event_t  *e;

    e = payment_inflight_first(&r->sh.table, PAYMENT_EVENT_SENT);

    if (e == NULL || r->doubt) {
        return e == NULL;
    }

    while (e && e->excused) {
        e = e->next;
    }

    return e == NULL;
}


/* An event that was refused before is not forgotten, but waits for its retry
 * again. */

static void
ngx_payment_relay_forget_unsent(ngx_payment_relay_t *r)
{
    payment_event_t  *e, *next;

    for (e = payment_inflight_first(&r->sh.table, PAYMENT_EVENT_WANTED);
         e;
         e = next)
    {
        next = e->next;

        if (e->attempts) {
            e->asked = 0;
            payment_inflight_move(e, PAYMENT_EVENT_REFUSED);
        }
    }

    payment_inflight_forget_unsent(&r->sh.table);
    ngx_payment_outbox_shard_forget_aside(&r->sh);
    r->passed_by = 0;
}


static void
ngx_payment_relay_rewound(ngx_payment_relay_t *r)
{
    uint64_t               wait;
    payment_lease_state_e  lease;

    if (r->doubt) {
        r->doubt = 0;
        ngx_payment_relay_forget_troubled(r);
    }

    /* what was set aside while reports were waited for is read again, too */
    ngx_payment_outbox_shard_forget_aside(&r->sh);
    r->passed_by = 0;

    lease = r->sh.lease.state;

    if (lease != PAYMENT_LEASE_HELD && lease != PAYMENT_LEASE_DRAINING) {
        r->sh.state = NGX_PAYMENT_RELAY_STOPPED;
        return;
    }

    wait = 0;

    if (r->failures) {
        wait = NGX_PAYMENT_RELAY_BACKOFF_MIN_NS << ngx_min(r->failures - 1, 5);
        wait = ngx_min(wait, NGX_PAYMENT_RELAY_BACKOFF_MAX_NS);
    }

    r->resume_at_ns = ngx_payment_clock_ns() + wait;
    r->sh.state = NGX_PAYMENT_RELAY_RUNNING;

    ngx_payment_reader_rewind(&r->reader);
    ngx_payment_reader_soon(&r->reader);
}


/*
 * Ids may mean other rows now: what was found out about events is forgotten,
 * and what Kafka has, or will have of what is in flight, is UNSURE until its
 * row was seen again.  There may also be dead letters that we don't know of.
 */

static void
ngx_payment_relay_doubt(ngx_payment_relay_t *r)
{
    payment_event_t     *e;
    payment_inflight_t  *table;

    table = &r->sh.table;

    r->sh.doubts++;
    r->doubt = 0;

    for (e = payment_inflight_first(table, PAYMENT_EVENT_SENT); e; e = e->next)
    {
        e->doubted = 1;
        r->doubt = 1;
    }

    ngx_payment_relay_forget_troubled(r);

    while ((e = payment_inflight_first(table, PAYMENT_EVENT_ACKED)) != NULL) {
        payment_inflight_move(e, PAYMENT_EVENT_UNSURE);
    }

    ngx_payment_reader_block(&r->reader);
    ngx_payment_relay_rewind(r);
}


static void
ngx_payment_relay_forget_troubled(ngx_payment_relay_t *r)
{
    ngx_uint_t           i;
    payment_event_t     *e;
    payment_inflight_t  *table;

    static const payment_event_state_e  troubled[] = {
        PAYMENT_EVENT_REFUSED, PAYMENT_EVENT_SUSPECT, PAYMENT_EVENT_DEAD
    };

    table = &r->sh.table;

    for (i = 0; i < sizeof(troubled) / sizeof(troubled[0]); i++) {
        while ((e = payment_inflight_first(table, troubled[i])) != NULL) {
            ngx_payment_outbox_shard_forget(&r->sh, e);
        }
    }

    ngx_memzero(r->scouts, sizeof(r->scouts));
}


static void
ngx_payment_relay_forget_followers(ngx_payment_relay_t *r)
{
    payment_event_t  *e, *next;

    for (e = payment_inflight_first(&r->sh.table, PAYMENT_EVENT_DEAD);
         e;
         e = next)
    {
        next = e->next;

        if (e->follower) {
            ngx_payment_outbox_shard_forget(&r->sh, e);
        }
    }
}


/* time */

void
ngx_payment_relay_tick(ngx_payment_relay_t *r, uint64_t now_ns)
{
    uint64_t  now_ms;

    if (r->sh.astray
        || (r->passed_by
            && now_ns / 1000000
               >= r->passed_by_at_ms + NGX_PAYMENT_RELAY_PASSED_BY))
    {
        ngx_payment_relay_rewind(r);
    }

    ngx_payment_relay_retry(r, now_ns);
    ngx_payment_reader_tick(&r->reader, now_ns);
    ngx_payment_relay_pump(r);
    ngx_payment_fence_next(&r->fence);

    /* after that: what it looks at may have been done just now */

    now_ms = ngx_payment_clock_ms();

    if (r->sh.state == NGX_PAYMENT_RELAY_RUNNING) {
        r->sh.gauges->backlog = ngx_payment_relay_backlog(r);
        ngx_payment_relay_age(r, now_ms);
    }

    payment_lease_set_able(&r->sh.lease, now_ms,
                           ngx_payment_relay_able(r, now_ms) != 0);

    ngx_payment_relay_show_lease(r, now_ms);
}


/*
 * Events can be produced until then, if nothing happens by then.  A lease is of
 * no use to who cannot read: as long as nothing is rewound an exchange begins
 * every few seconds at least, and only a new holder's first one, which may have
 * to go over all rows that were ever deleted, takes longer than that.
 */

static void
ngx_payment_relay_show_lease(ngx_payment_relay_t *r, uint64_t now_ms)
{
    ngx_uint_t                  fails;
    ngx_payment_life_gauges_t  *gauges;

    gauges = r->sh.gauges;

    if (r->sh.lease.state != PAYMENT_LEASE_HELD
        || r->sh.state != NGX_PAYMENT_RELAY_RUNNING)
    {
        r->fit_at_ms = now_ms;
    }

    r->fit_at_ms = ngx_max(r->fit_at_ms, r->reader.read_at_ms);

    /* a read that ended since this tick began is later than its time */

    fails = (now_ms >= r->fit_at_ms + NGX_PAYMENT_RELAY_READ_STALE);

    gauges->reading_fails = fails;
    gauges->lease_until =
        (!fails && ngx_payment_reader_connected(&r->reader))
        ? now_ms + payment_lease_remaining(&r->sh.lease, now_ms) : 0;
}


/*
 * Can this node publish the shard's events?  One that has the lease can, as
 * long as it publishes or nothing waits; after at_most without either it is
 * said to be unable, for some time: then another node can have the lease.  One
 * that does not have it is asked what it knows.  A pause is the operator's
 * will, and no inability.
 */

static ngx_uint_t
ngx_payment_relay_able(ngx_payment_relay_t *r, uint64_t now_ms)
{
    uint64_t              patience;
    ngx_payment_relays_t  *all;

    all = r->all;
    patience = r->sh.node->rules.conf.at_most_ms;

    if (r->sh.lease.state != PAYMENT_LEASE_HELD
        || all->conf->stats->helper.paused
        || (now_ms - r->reader.read_at_ms < NGX_PAYMENT_RELAY_READ_AGE
            && ngx_payment_relay_backlog(r) == 0))
    {
        r->worked_at_ms = now_ms;
    }

    if (now_ms - r->worked_at_ms >= patience) {
        r->unable_until_ms = now_ms + NGX_PAYMENT_RELAY_UNABLE * patience;
    }

    if (now_ms < r->unable_until_ms) {
        return 0;
    }

    return r->sh.lease.state == PAYMENT_LEASE_HELD
           || (ngx_payment_reader_connected(&r->reader)
               && ngx_payment_producer_reaches(&all->producer)
               && !ngx_payment_breaker_refuses(&all->breaker,
                                               now_ms * 1000000));
}


static ngx_uint_t
ngx_payment_relay_backlog(ngx_payment_relay_t *r)
{
    ngx_uint_t  i, n;

    static const payment_event_state_e  unpublished[] = {
        PAYMENT_EVENT_WANTED, PAYMENT_EVENT_READY, PAYMENT_EVENT_BEHIND,
        PAYMENT_EVENT_SENT, PAYMENT_EVENT_REFUSED, PAYMENT_EVENT_SUSPECT
    };

    n = r->reader.beyond + r->sh.aside.n;

    for (i = 0; i < sizeof(unpublished) / sizeof(unpublished[0]); i++) {
        n += payment_inflight_count(&r->sh.table, unpublished[i]);
    }

    return n;
}


/*
 * Since when the oldest event waits.  Each of these lists begins with its
 * oldest, or nearly so.  While nothing of what waits is known, because the
 * breaker is open, say, what was the oldest still is.
 */

static void
ngx_payment_relay_age(ngx_payment_relay_t *r, uint64_t now_ms)
{
    uint64_t          oldest, aside;
    ngx_uint_t        i;
    payment_event_t  *e;

    static const payment_event_state_e  lists[] = {
        PAYMENT_EVENT_READY, PAYMENT_EVENT_SENT, PAYMENT_EVENT_REFUSED,
        PAYMENT_EVENT_SUSPECT
    };

    oldest = 0;

    for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        e = payment_inflight_first(&r->sh.table, lists[i]);

        if (e && e->committed_us && (oldest == 0 || e->committed_us < oldest)) {
            oldest = e->committed_us;
        }
    }

    aside = ngx_payment_outbox_shard_oldest_aside(&r->sh, now_ms);

    if (aside && (oldest == 0 || aside < oldest)) {
        oldest = aside;
    }

    if (oldest || r->sh.gauges->backlog == 0) {
        r->sh.gauges->oldest_us = oldest;

    } else if (r->sh.gauges->oldest_us == 0) {

        /* one that was never read, and is at least as old as that */

        r->sh.gauges->oldest_us = ngx_payment_unix_us();
    }
}


/* what was refused is read again when its time has come */

static void
ngx_payment_relay_retry(ngx_payment_relay_t *r, uint64_t now_ns)
{
    payment_event_t               *e;
    payment_inflight_t            *table;
    ngx_payment_producer_topic_t  *topic;

    table = &r->sh.table;

    while (payment_inflight_count(table, PAYMENT_EVENT_WANTED)
           + payment_inflight_count(table, PAYMENT_EVENT_SUSPECT)
           < NGX_PAYMENT_RELAY_SUSPECTS)
    {
        e = payment_inflight_first(table, PAYMENT_EVENT_REFUSED);

        if (e == NULL
            || now_ns - e->since_ns
               < r->all->conf->retry_interval * 1000000ULL
            || r->sh.state != NGX_PAYMENT_RELAY_RUNNING)
        {
            return;
        }

        topic = &r->all->lanes.topics[e->topic];

        if (!ngx_payment_producer_topic_takes(topic, e->lane)) {

            if (!ngx_payment_producer_topic_scout(topic, e->lane, now_ns,
                                                  r->all->conf->retry_interval,
                                                  r->sh.log))
            {
                /* to the end of its list, until one may be sent again */
                e->since_ns = now_ns;
                payment_inflight_move(e, PAYMENT_EVENT_REFUSED);
                continue;
            }

            e->scout = 1;
        }

        ngx_payment_relay_scouts(r, e, -1);
        payment_inflight_move(e, PAYMENT_EVENT_WANTED);
    }
}


void
ngx_payment_relay_excuse(ngx_payment_relay_t *r)
{
    payment_event_t  *e;

    for (e = payment_inflight_first(&r->sh.table, PAYMENT_EVENT_SENT);
         e;
         e = e->next)
    {
        e->excused = !ngx_payment_producer_lanes_take(&r->all->lanes, e);
    }
}


void
ngx_payment_relay_excuse_all(ngx_payment_relays_t *all)
{
    ngx_uint_t  i;

    for (i = 0; i < all->n; i++) {
        ngx_payment_relay_excuse(&all->relays[i]);
    }
}


uint64_t
ngx_payment_relay_oldest(ngx_payment_relay_t *r)
{
    payment_event_t  *e;

    e = payment_inflight_first(&r->sh.table, PAYMENT_EVENT_SENT);

    return e ? e->since_ns : 0;
}


ngx_int_t
ngx_payment_relay_replay(ngx_payment_relay_t *r, uint64_t id)
{
    if (r->sh.lease.state != PAYMENT_LEASE_HELD) {
        return NGX_DECLINED;
    }

    ngx_payment_dead_want_replay(&r->dead, id);

    return NGX_OK;
}


/* the end */

void
ngx_payment_relay_stop(ngx_payment_relay_t *r)
{
    ngx_payment_relay_forget_unsent(r);
    payment_lease_stop(&r->sh.lease, ngx_payment_clock_ms());

    ngx_payment_delete_all(&r->deletion);
    ngx_payment_fence_next(&r->fence);
}


ngx_uint_t
ngx_payment_relay_stopped(ngx_payment_relay_t *r)
{
    return payment_lease_gone(&r->sh.lease) != 0;
}


void
ngx_payment_relay_close(ngx_payment_relay_t *r)
{
    r->sh.state = NGX_PAYMENT_RELAY_ENDED;
    ngx_memzero(r->sh.gauges, sizeof(ngx_payment_life_gauges_t));

    ngx_payment_lease_close(&r->lease);
    ngx_payment_delete_close(&r->deletion);
    ngx_payment_fence_close(&r->fence);
    ngx_payment_reader_close(&r->reader);
}
