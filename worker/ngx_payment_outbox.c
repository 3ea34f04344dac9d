/*
 * The outbox as a guest on nginx's event loop: how it begins, its pulse, the
 * breaker between the relays and the producer, and how it ends.
 *
 * Two hosts.  The helper process: the master starts nginx's cache manager for
 * our path's sake and calls ngx_payment_outbox_manager() there; it ends by
 * exit(), so that the drain is an atexit() handler.  And the single process,
 * when master_process is off: the module's init_process and exit_process hooks
 * call start and drain.
 *
 * Owner: one of these processes, recognised by its pid.
 * Limits: one outbox a process; a tick each poll interval; the drain ends
 * after payment_outbox_drain_timeout, or about 1 s when the master kills.
 */

#include "ngx_payment_relay.h"
#include "ngx_payment_producer_conf.h"
#include "ngx_payment_command.h"

#include <sys/prctl.h>
#include <sys/random.h>
#include <signal.h>


#define NGX_PAYMENT_MANAGER_DELAY     (3600 * 1000)      /* ms: own timers */
#define NGX_PAYMENT_TICK_MAX          100                /* ms */
#define NGX_PAYMENT_DRAIN_TICK        10                 /* ms */
#define NGX_PAYMENT_REPORT_PATIENCE   5000               /* ms */
#define NGX_PAYMENT_OVERDUE_TICKS     20
#define NGX_PAYMENT_TERMINATE_DRAIN   1000               /* ms */

#define NGX_PAYMENT_CRASH_PERIOD      30000              /* ms */
#define NGX_PAYMENT_CRASHES_FREE      2
#define NGX_PAYMENT_CRASH_DELAY       250                /* ms, doubled each */


static ngx_int_t ngx_payment_outbox_begin(ngx_payment_outbox_conf_t *conf,
    ngx_cycle_t *cycle);
static ngx_msec_t ngx_payment_outbox_enter(ngx_payment_outbox_t *o);
static ngx_int_t ngx_payment_outbox_identity(ngx_payment_outbox_t *o);
static void ngx_payment_outbox_run(ngx_event_t *ev);
static ngx_int_t ngx_payment_outbox_init_breaker(ngx_payment_outbox_t *o);
static ngx_int_t ngx_payment_outbox_init_relays(ngx_payment_outbox_t *o);
static ngx_int_t ngx_payment_outbox_init_bell(ngx_payment_outbox_t *o);
static void ngx_payment_outbox_ring(ngx_event_t *ev);
static void ngx_payment_outbox_tick(ngx_event_t *ev);
static void ngx_payment_outbox_watch(ngx_payment_outbox_t *o, uint64_t now_ns);

static void ngx_payment_outbox_breaker_event(void *data,
    const payment_breaker_event_t *event);
static void ngx_payment_outbox_breaker_act(ngx_payment_outbox_t *o);
static void ngx_payment_outbox_breaker_show(ngx_payment_outbox_t *o,
    uint64_t now_ns);

static void ngx_payment_outbox_report(void *data, payment_event_t *e,
    ngx_payment_verdict_e verdict, rd_kafka_resp_err_t err);
static void ngx_payment_outbox_abandoned(void *data);
static void ngx_payment_outbox_room(void *data);
static void ngx_payment_outbox_down(void *data, rd_kafka_resp_err_t err);

static void ngx_payment_outbox_exit(void);
static void ngx_payment_outbox_end(ngx_payment_outbox_t *o);
static ngx_msec_t ngx_payment_outbox_drain_time(ngx_payment_outbox_t *o);
static ngx_uint_t ngx_payment_outbox_drained(ngx_payment_outbox_t *o);


/* of this process; a child of a fork is no owner */
static ngx_payment_outbox_t  *ngx_payment_outbox;
static ngx_pid_t              ngx_payment_outbox_pid;


static const ngx_payment_producer_handlers_t  ngx_payment_outbox_handlers = {
    ngx_payment_outbox_report,
    ngx_payment_outbox_abandoned,
    ngx_payment_outbox_room,
    ngx_payment_outbox_down
};


/* beginning */

ngx_msec_t
ngx_payment_outbox_manager(void *data)
{
    ngx_payment_outbox_conf_t *conf = data;

    ngx_cycle_t  *cycle;

    /* the cache loader comes by, too, and a failed start is not repeated */

    if (ngx_payment_outbox_pid == ngx_pid) {
        return NGX_PAYMENT_MANAGER_DELAY;
    }

    ngx_payment_outbox_pid = ngx_pid;
    cycle = (ngx_cycle_t *) ngx_cycle;

    ngx_setproctitle("payment outbox");

    /* not before the user was changed, which clears it */

    if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) == -1) {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, ngx_errno,
                      "prctl(PR_SET_PDEATHSIG) failed");
    }

    if (getppid() != ngx_parent) {
        /* the master died before it could have been told */
        ngx_terminate = 1;
        return NGX_PAYMENT_MANAGER_DELAY;
    }

    if (ngx_payment_db_init_process(cycle) != NGX_OK
        || ngx_payment_outbox_begin(conf, cycle) != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, 0,
                      "payment outbox: could not start; events wait in the "
                      "database until a reload");
        return NGX_PAYMENT_MANAGER_DELAY;
    }

    if (atexit(ngx_payment_outbox_exit) != 0) {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, 0,
                      "payment outbox: atexit() failed, leases won't be "
                      "given back");
    }

    return NGX_PAYMENT_MANAGER_DELAY;
}


ngx_int_t
ngx_payment_outbox_start(ngx_payment_outbox_conf_t *conf, ngx_cycle_t *cycle)
{
    ngx_payment_outbox_pid = ngx_pid;

    return ngx_payment_outbox_begin(conf, cycle);
}


static ngx_int_t
ngx_payment_outbox_begin(ngx_payment_outbox_conf_t *conf, ngx_cycle_t *cycle)
{
    ngx_msec_t             delay;
    ngx_payment_outbox_t  *o;

    o = ngx_calloc(sizeof(ngx_payment_outbox_t), cycle->log);
    if (o == NULL) {
        return NGX_ERROR;
    }

    o->conf = conf;
    o->stats = conf->stats;
    o->cycle = cycle;
    o->log = cycle->log;
    o->producer_timeout = ngx_payment_producer_conf_timeout(conf);

    if (ngx_payment_outbox_identity(o) != NGX_OK
        || ngx_payment_outbox_init_breaker(o) != NGX_OK
        || ngx_payment_outbox_init_relays(o) != NGX_OK
        || ngx_payment_outbox_init_bell(o) != NGX_OK)
    {
        return NGX_ERROR;
    }

    o->producer.conf = conf;
    o->producer.log = o->log;
    o->producer.handlers = &ngx_payment_outbox_handlers;
    o->producer.data = o;

    o->tick.handler = ngx_payment_outbox_tick;
    o->tick.data = o;
    o->tick.log = o->log;
    o->tick.cancelable = 1;

    o->start.handler = ngx_payment_outbox_run;
    o->start.data = o;
    o->start.log = o->log;
    o->start.cancelable = 1;

    delay = ngx_payment_outbox_enter(o);
    ngx_add_timer(&o->start, delay);

    ngx_payment_outbox = o;

    return NGX_OK;
}


/*
 * Puts this life into shared memory, and learns of those before it: whose
 * leases are free for the taking, and how often they crashed.  The core starts
 * a dead helper again at once, however often; so we wait.
 */

static ngx_msec_t
ngx_payment_outbox_enter(ngx_payment_outbox_t *o)
{
    u_char                      *p;
    uint64_t                     now;
    ngx_uint_t                   i, crashes, starts;
    ngx_msec_t                   delay;
    ngx_payment_life_t          *life;
    ngx_payment_helper_stats_t  *helper;

    helper = &o->stats->helper;
    now = ngx_payment_unix_us() / 1000;
    p = o->predecessors;
    crashes = 0;

    for (i = 0; i < NGX_PAYMENT_LIVES; i++) {
        life = &helper->lives[i];

        if (life->pid == 0
            || kill((pid_t) life->pid, 0) == 0 || ngx_errno != NGX_ESRCH)
        {
            continue;
        }

        life->owner[NGX_PAYMENT_OWNER_LEN - 1] = '\0';
        p = ngx_sprintf(p, ",'%s'", life->owner);

        if (now - life->started_at < NGX_PAYMENT_CRASH_PERIOD) {
            crashes++;
        }
    }

    *p = '\0';

    starts = ngx_atomic_fetch_add(&helper->starts, 1);
    o->life = starts % NGX_PAYMENT_LIVES;

    life = &helper->lives[o->life];
    life->pid = 0;
    (void) ngx_cpystrn(life->owner, (u_char *) o->uuid, NGX_PAYMENT_OWNER_LEN);
    life->started_at = now;
    life->pid = ngx_pid;

    (void) ngx_cpystrn(helper->owner, (u_char *) o->uuid,
                       NGX_PAYMENT_OWNER_LEN);
    helper->started_at = now;
    helper->pid = ngx_pid;
    helper->kafka_up = 0;

    /* the first one of this nginx gives others time to come up */

    delay = (starts == 0) ? o->conf->initial_delay : 0;

    if (crashes > NGX_PAYMENT_CRASHES_FREE) {
        delay = NGX_PAYMENT_CRASH_DELAY
                << (crashes - NGX_PAYMENT_CRASHES_FREE - 1);

        ngx_log_error(NGX_LOG_WARN, o->log, 0,
                      "payment outbox: %ui helpers died within %d s, starting "
                      "in %M ms", crashes, NGX_PAYMENT_CRASH_PERIOD / 1000,
                      delay);
    }

    return delay;
}


/* A uuid for this life, and the host's name as SQL may hold it. */

static ngx_int_t
ngx_payment_outbox_identity(ngx_payment_outbox_t *o)
{
    char                 *p;
    u_char                random[16 + sizeof(uint64_t)], hex[32];
    uint64_t              seed;
    payment_lease_conf_t  conf;

    if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
        ngx_log_error(NGX_LOG_ALERT, o->log, ngx_errno,
                      "payment outbox: getrandom() failed");
        return NGX_ERROR;
    }

    random[6] = (random[6] & 0x0f) | 0x40;
    random[8] = (random[8] & 0x3f) | 0x80;

    (void) ngx_hex_dump(hex, random, 16);
    (void) ngx_sprintf((u_char *) o->uuid, "%*s-%*s-%*s-%*s-%*s%Z",
                       (size_t) 8, hex, (size_t) 4, hex + 8,
                       (size_t) 4, hex + 12, (size_t) 4, hex + 16,
                       (size_t) 12, hex + 20);

    if (gethostname(o->host, sizeof(o->host)) == -1) {
        o->host[0] = '\0';
    }

    o->host[sizeof(o->host) - 1] = '\0';

    for (p = o->host; *p; p++) {
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z')
              || (*p >= '0' && *p <= '9') || *p == '.' || *p == '-'))
        {
            *p = '_';
        }
    }

    o->predecessors = ngx_calloc(NGX_PAYMENT_LIVES
                                 * (NGX_PAYMENT_OWNER_LEN + 3) + 1, o->log);
    if (o->predecessors == NULL) {
        return NGX_ERROR;
    }

    conf.at_most_ms = o->conf->lock_at_most_for;
    conf.at_least_ms = o->conf->lock_at_least_for;

    ngx_memcpy(&seed, random + 16, sizeof(uint64_t));
    payment_lease_node_init(&o->node, &conf, o->uuid, seed);

    return NGX_OK;
}


static ngx_int_t
ngx_payment_outbox_init_breaker(ngx_payment_outbox_t *o)
{
    size_t                   size;
    uint64_t                 now;
    payment_breaker_conf_t   conf;
    payment_breaker_state_e  before;

    conf = o->conf->breaker;
    conf.handler = ngx_payment_outbox_breaker_event;
    conf.data = o;

    now = ngx_payment_clock_ns();
    size = payment_breaker_memory(&conf);

    o->breaker_on = (o->conf->breaker_enable != 0);
    o->breaker_memory = ngx_alloc(size, o->log);

    if (o->breaker_memory == NULL
        || payment_breaker_init(&o->breaker, &conf, o->breaker_memory, size,
                                now)
           != 0)
    {
        return NGX_ERROR;
    }

    /* what an operator forced outlives a helper */

    before = (payment_breaker_state_e) o->stats->helper.breaker_state;

    if (o->breaker_on
        && (before == PAYMENT_BREAKER_FORCED_OPEN
            || before == PAYMENT_BREAKER_DISABLED))
    {
        (void) payment_breaker_force(&o->breaker, now, before);
    }

    o->breaker_state = o->breaker.state;

    return NGX_OK;
}


static ngx_int_t
ngx_payment_outbox_init_relays(ngx_payment_outbox_t *o)
{
    ngx_uint_t             i;
    ngx_payment_shard_t  **shards;

    shards = o->conf->shards->elts;

    o->nrelays = o->conf->shards->nelts;
    o->relays = ngx_calloc(o->nrelays * sizeof(ngx_payment_relay_t), o->log);

    if (o->relays == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < o->nrelays; i++) {
        if (ngx_payment_relay_init(&o->relays[i], o, shards[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_payment_outbox_init_bell(ngx_payment_outbox_t *o)
{
    ngx_connection_t  *c;

    c = ngx_get_connection(o->conf->doorbell, o->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    c->data = o;
    c->read->handler = ngx_payment_outbox_ring;
    c->read->log = o->log;
    c->write->log = o->log;

    if (ngx_add_event(c->read, NGX_READ_EVENT,
                      (ngx_event_flags & NGX_USE_CLEAR_EVENT)
                      ? NGX_CLEAR_EVENT : NGX_LEVEL_EVENT)
        != NGX_OK)
    {
        ngx_free_connection(c);
        return NGX_ERROR;
    }

    o->bell = c;

    return NGX_OK;
}


static void
ngx_payment_outbox_run(ngx_event_t *ev)
{
    ngx_uint_t             i;
    ngx_payment_outbox_t  *o;

    o = ev->data;
    o->started = 1;

    ngx_log_error(NGX_LOG_NOTICE, o->log, 0,
                  "payment outbox: started, %ui shard(s), owner %s",
                  o->nrelays, o->uuid);

    ngx_payment_producer_open(&o->producer);

    for (i = 0; i < o->nrelays; i++) {
        ngx_payment_relay_open(&o->relays[i]);
    }

    ngx_add_timer(&o->tick, 1);
}


/* the pulse */

static void
ngx_payment_outbox_ring(ngx_event_t *ev)
{
    uint64_t               n;
    ngx_uint_t             i;
    ngx_connection_t      *c;
    ngx_payment_outbox_t  *o;

    c = ev->data;
    o = c->data;

    if (read(c->fd, &n, sizeof(uint64_t)) == -1 && ngx_errno != NGX_EAGAIN) {
        ngx_log_error(NGX_LOG_ALERT, ev->log, ngx_errno,
                      "payment outbox: read() of the doorbell failed");
    }

    if (!o->started) {
        return;
    }

    for (i = 0; i < o->nrelays; i++) {
        ngx_payment_reader_wake(&o->relays[i]);
    }
}


static void
ngx_payment_outbox_tick(ngx_event_t *ev)
{
    uint64_t               now;
    ngx_uint_t             i;
    ngx_payment_outbox_t  *o;

    o = ev->data;
    now = ngx_payment_clock_ns();

    if (o->breaker_on) {
        (void) payment_breaker_tick(&o->breaker, now);

        for (i = 0; i < o->nrelays; i++) {
            ngx_payment_relay_tell_breaker(&o->relays[i], now, 0);
        }
    }

    ngx_payment_outbox_breaker_act(o);
    ngx_payment_outbox_watch(o, now);

    if (!o->draining) {
        ngx_payment_command_run(o);
    }

    for (i = 0; i < o->nrelays; i++) {
        ngx_payment_relay_tick(&o->relays[i], now);
    }

    ngx_payment_outbox_breaker_show(o, now);

    ngx_add_timer(ev, o->draining ? NGX_PAYMENT_DRAIN_TICK
                      : ngx_min(o->conf->poll_interval, NGX_PAYMENT_TICK_MAX));
}


/*
 * The library promises a report within its timeout.  Should it ever forget
 * one, publishing would stand still: then there is a new producer.  Several
 * ticks, since after a stop of this process reports may be waiting for us.
 */

static void
ngx_payment_outbox_watch(ngx_payment_outbox_t *o, uint64_t now_ns)
{
    uint64_t          limit;
    ngx_uint_t        i;
    payment_event_t  *e;

    limit = (o->producer_timeout + NGX_PAYMENT_REPORT_PATIENCE) * 1000000ULL;

    for (i = 0; i < o->nrelays; i++) {
        e = payment_inflight_first(&o->relays[i].table, PAYMENT_EVENT_SENT);

        if (e && now_ns - e->since_ns > limit) {
            break;
        }
    }

    if (i == o->nrelays || o->producer.state != NGX_PAYMENT_PRODUCER_UP) {
        o->overdue = 0;
        return;
    }

    if (++o->overdue == NGX_PAYMENT_OVERDUE_TICKS) {
        ngx_log_error(NGX_LOG_ALERT, o->log, 0,
                      "payment outbox: no delivery report for %M ms, the Kafka "
                      "producer is given up",
                      o->producer_timeout + NGX_PAYMENT_REPORT_PATIENCE);

        ngx_payment_producer_abort(&o->producer, NGX_PAYMENT_REPORT_PATIENCE);
    }
}


/* the breaker */

ngx_uint_t
ngx_payment_outbox_permit(ngx_payment_outbox_t *o, uint64_t now_ns,
    payment_event_t *e)
{
    e->counted = 0;

    return !o->breaker_on
           || payment_breaker_acquire(&o->breaker, now_ns, &e->token);
}


void
ngx_payment_outbox_unpermit(ngx_payment_outbox_t *o, payment_event_t *e)
{
    if (o->breaker_on && !e->counted) {
        payment_breaker_release(&o->breaker, e->token);
        e->counted = 1;
    }
}


/* Once for an event: the breaker may have been told before its report. */

void
ngx_payment_outbox_result(ngx_payment_outbox_t *o, uint64_t now_ns,
    payment_event_t *e, payment_breaker_outcome_e outcome)
{
    if (!o->breaker_on || e->counted) {
        return;
    }

    e->counted = 1;

    payment_breaker_on_result(&o->breaker, now_ns, e->token,
                              now_ns - e->since_ns, outcome);
}


static void
ngx_payment_outbox_breaker_event(void *data,
    const payment_breaker_event_t *event)
{
    ngx_payment_outbox_t *o = data;

    ngx_uint_t                   level;
    ngx_payment_helper_stats_t  *helper;

    helper = &o->stats->helper;

    switch (event->type) {

    case PAYMENT_BREAKER_EVENT_SUCCESS:
        ngx_payment_histogram_add(&helper->calls_successful,
                                  event->duration_ns / 1000);
        break;

    case PAYMENT_BREAKER_EVENT_ERROR:
        ngx_payment_histogram_add(&helper->calls_failed,
                                  event->duration_ns / 1000);
        break;

    case PAYMENT_BREAKER_EVENT_IGNORED_ERROR:
        ngx_payment_histogram_add(&helper->calls_ignored,
                                  event->duration_ns / 1000);
        break;

    case PAYMENT_BREAKER_EVENT_NOT_PERMITTED:
        (void) ngx_atomic_fetch_add(&helper->breaker_not_permitted, 1);
        break;

    case PAYMENT_BREAKER_EVENT_STATE_TRANSITION:
        level = (event->to == PAYMENT_BREAKER_OPEN
                 || event->to == PAYMENT_BREAKER_FORCED_OPEN)
                ? NGX_LOG_WARN : NGX_LOG_NOTICE;

        ngx_log_error(level, o->log, 0,
                      "payment outbox: circuit breaker %s -> %s",
                      payment_breaker_state_name(event->from),
                      payment_breaker_state_name(event->to));

        (void) ngx_atomic_fetch_add(&helper->breaker_transitions, 1);
        break;

    case PAYMENT_BREAKER_EVENT_FAILURE_RATE_EXCEEDED:
    case PAYMENT_BREAKER_EVENT_SLOW_CALL_RATE_EXCEEDED:
        ngx_log_error(NGX_LOG_WARN, o->log, 0,
                      "payment outbox: circuit breaker: %s, %.1f %%",
                      payment_breaker_event_name(event->type),
                      (double) event->rate);
        break;

    default:
        break;
    }
}


/*
 * OPEN sends nothing, so what the producer has in its queue comes back.  Not
 * done in the breaker's own call, which reports are in the middle of.
 */

static void
ngx_payment_outbox_breaker_act(ngx_payment_outbox_t *o)
{
    ngx_uint_t               i;
    payment_breaker_state_e  state;

    state = o->breaker.state;

    if (state == o->breaker_state) {
        return;
    }

    o->breaker_state = state;

    if (state != PAYMENT_BREAKER_OPEN && state != PAYMENT_BREAKER_FORCED_OPEN) {
        return;
    }

    ngx_payment_producer_abort(&o->producer, 0);

    for (i = 0; i < o->nrelays; i++) {
        ngx_payment_relay_rewind(&o->relays[i]);
    }
}


static void
ngx_payment_outbox_breaker_show(ngx_payment_outbox_t *o, uint64_t now_ns)
{
    ngx_uint_t                   i;
    payment_breaker_snapshot_t   s;
    ngx_payment_helper_stats_t  *helper;

    payment_breaker_snapshot(&o->breaker, now_ns, &s);

    helper = &o->stats->helper;

    helper->breaker_state = o->breaker_on ? s.state
                                          : PAYMENT_BREAKER_DISABLED;
    helper->breaker_failure_rate = (ngx_atomic_uint_t)
                                       (ngx_int_t) (s.failure_rate * 100);
    helper->breaker_slow_rate = (ngx_atomic_uint_t)
                                    (ngx_int_t) (s.slow_call_rate * 100);
    helper->breaker_buffered = s.buffered;
    helper->breaker_failed = s.failed;
    helper->breaker_slow = s.slow;
    helper->breaker_slow_failed = s.slow_failed;

    for (i = 0; i < PAYMENT_BREAKER_OUTCOMES; i++) {
        helper->breaker_max_us[i] = s.calls[i].max_ns / 1000;
    }
}


/* what the producer tells */

static void
ngx_payment_outbox_report(void *data, payment_event_t *e,
    ngx_payment_verdict_e verdict, rd_kafka_resp_err_t err)
{
    ngx_payment_relay_report(e->table->owner, e, verdict, err);
}


static void
ngx_payment_outbox_abandoned(void *data)
{
    ngx_payment_outbox_t *o = data;

    ngx_uint_t  i;

    for (i = 0; i < o->nrelays; i++) {
        ngx_payment_relay_abandoned(&o->relays[i]);
    }
}


static void
ngx_payment_outbox_room(void *data)
{
    ngx_payment_outbox_t *o = data;

    ngx_uint_t  i;

    ngx_payment_outbox_breaker_act(o);

    for (i = 0; i < o->nrelays; i++) {
        ngx_payment_relay_pump(&o->relays[i]);
    }
}


/* What is in flight can't arrive as things are: no need to wait for it to be
 * slow. */

static void
ngx_payment_outbox_down(void *data, rd_kafka_resp_err_t err)
{
    ngx_payment_outbox_t *o = data;

    uint64_t    now;
    ngx_uint_t  i;

    if (!o->breaker_on) {
        return;
    }

    now = ngx_payment_clock_ns();

    for (i = 0; i < o->nrelays; i++) {
        ngx_payment_relay_tell_breaker(&o->relays[i], now, 1);
    }
}


/* ending */

static void
ngx_payment_outbox_exit(void)
{
    if (ngx_payment_outbox_pid != ngx_getpid() || ngx_payment_outbox == NULL) {
        return;
    }

    ngx_payment_outbox_end(ngx_payment_outbox);
}


void
ngx_payment_outbox_drain(ngx_payment_outbox_conf_t *conf, ngx_cycle_t *cycle)
{
    if (ngx_payment_outbox == NULL) {
        return;
    }

    /* the event loop goes on: nobody shall come in */
    ngx_close_listening_sockets(cycle);

    ngx_payment_outbox_end(ngx_payment_outbox);
}


/*
 * Hand nothing out; wait for what is in flight, delete what was acknowledged,
 * give the leases back.  The last third of the time is for the latter two:
 * what was not reported by then is given up and published again by whoever
 * comes next.
 */

static void
ngx_payment_outbox_end(ngx_payment_outbox_t *o)
{
    uint64_t                     now, until, give_up_at;
    ngx_uint_t                   i;
    ngx_msec_t                   time;
    ngx_payment_helper_stats_t  *helper;

    if (o->draining) {
        return;
    }

    o->draining = 1;
    o->stats->doorbell_armed = 0;

    if (o->start.timer_set) {
        ngx_del_timer(&o->start);
    }

    time = ngx_payment_outbox_drain_time(o);
    now = ngx_payment_clock_ms();
    until = now + time;
    give_up_at = now + time - time / 3;

    if (o->started) {

        for (i = 0; i < o->nrelays; i++) {
            ngx_payment_relay_stop(&o->relays[i]);
        }

        ngx_add_timer(&o->tick, 0);
    }

    while (o->started && now < until && !ngx_payment_outbox_drained(o)) {

        ngx_process_events_and_timers(o->cycle);

        now = ngx_payment_clock_ms();

        if (now >= give_up_at && o->producer.outstanding) {
            ngx_log_error(NGX_LOG_WARN, o->log, 0,
                          "payment outbox: %ui events were not acknowledged "
                          "in time and will be published again",
                          o->producer.outstanding);

            /* the rest is for deletions and for the leases */

            ngx_payment_producer_abort(&o->producer,
                                       (ngx_msec_t) (until > now
                                                     ? until - now : 0)
                                       / 2 + 1);
            give_up_at = until;
        }

        if (ngx_terminate && until > now + NGX_PAYMENT_TERMINATE_DRAIN) {
            time = ngx_payment_outbox_drain_time(o);
            until = ngx_min(until, now + time);
            give_up_at = ngx_min(give_up_at, now + time - time / 3);
        }
    }

    if (o->tick.timer_set) {
        ngx_del_timer(&o->tick);
    }

    for (i = 0; i < o->nrelays; i++) {
        ngx_payment_relay_close(&o->relays[i]);
    }

    helper = &o->stats->helper;
    helper->lives[o->life].pid = 0;
    (void) ngx_atomic_cmp_set(&helper->pid, ngx_pid, 0);

    ngx_log_error(NGX_LOG_NOTICE, o->log, 0, "payment outbox: stopped");

    now = ngx_payment_clock_ms();

    if (o->started
        && ngx_payment_producer_close(&o->producer,
                                      (ngx_msec_t) (until > now + 100
                                                    ? until - now : 100))
           != NGX_OK)
    {
        /* its threads live on, and must not meet what exit() takes apart */
        _exit(0);
    }
}


/* TERM: the master kills after a second or two; if there is still one */

static ngx_msec_t
ngx_payment_outbox_drain_time(ngx_payment_outbox_t *o)
{
    if (ngx_terminate
        && (ngx_process == NGX_PROCESS_SINGLE || getppid() == ngx_parent))
    {
        return ngx_min(o->conf->drain_timeout, NGX_PAYMENT_TERMINATE_DRAIN);
    }

    return o->conf->drain_timeout;
}


static ngx_uint_t
ngx_payment_outbox_drained(ngx_payment_outbox_t *o)
{
    ngx_uint_t  i;

    for (i = 0; i < o->nrelays; i++) {
        if (o->relays[i].state != NGX_PAYMENT_RELAY_ENDED) {
            return 0;
        }
    }

    return 1;
}
