/*
 * The looks at the servers of a shard, and what follows from them: see
 * ngx_payment_probe.h.
 *
 * Whoever meets a server that has not the payments asks for a look at once, in
 * shared memory; and while no server has them, looks are frequent.
 */

#include "ngx_payment_attempt.h"
#include "ngx_payment_common.h"
#include "ngx_payment_probe.h"


#define NGX_PAYMENT_PROBE_TICK      25          /* ms: is a look asked for? */
#define NGX_PAYMENT_PROBE_SOON      50          /* ms between looks, while no
                                                   server has the payments */
#define NGX_PAYMENT_PROBE_INTERVAL  1000        /* ms between looks */

/* for how long the primary may be without a voter: one that reconnects is no
 * reason to refuse payments */
#define NGX_PAYMENT_PROBE_UNVOTED   1000        /* ms */

/* replicas that may confirm: two of three servers always meet two of three, and
 * two of four need not */
#define NGX_PAYMENT_PROBE_VOTERS    2

/* for how long an answer counts; NGX_PAYMENT_COMMON_SEEN is longer */
#define NGX_PAYMENT_PROBE_FRESH     2000        /* ms */


/* What is known of a server. */

typedef struct {
    ngx_payment_probe_t       *probe;
    ngx_payment_attempt_t     *attempt;         /* NULL: no connection */
    ngx_payment_topology_t     topology;        /* of the last answer */
    ngx_uint_t                 voters;          /* of the same */
    ngx_msec_t                 answered;
    ngx_uint_t                 error;           /* of the last look; 0: none */
    const char                *objection;       /* to its claim, that was told
                                                   last; NULL: none */
    unsigned                   busy:1;          /* a look is under way */
    unsigned                   valid:1;         /* topology is an answer */
} ngx_payment_probe_server_t;


struct ngx_payment_probe_s {
    ngx_payment_shard_t         *shard;
    ngx_log_t                   *log;
    ngx_payment_probe_server_t   servers[NGX_PAYMENT_SERVERS_MAX];
    ngx_event_t                  timer;
    ngx_msec_t                   looked;        /* the last time */
    ngx_msec_t                   voted;         /* when the primary had as many
                                                   voters as it may have */
};


static void ngx_payment_probe_timer(ngx_event_t *ev);
static void ngx_payment_probe_look(ngx_payment_probe_t *p);
static void ngx_payment_probe_done(ngx_payment_attempt_t *a);
static void ngx_payment_probe_error(ngx_payment_probe_server_t *s,
    ngx_payment_attempt_t *a);
static void ngx_payment_probe_judge(ngx_payment_probe_t *p);
static void ngx_payment_probe_alone(ngx_payment_probe_t *p);
static void ngx_payment_probe_nobody(ngx_payment_probe_t *p);
static void ngx_payment_probe_count(ngx_payment_probe_t *p,
    ngx_uint_t voters);
static ngx_uint_t ngx_payment_probe_twice(const ngx_payment_probe_t *p,
    ngx_uint_t server);
static ngx_uint_t ngx_payment_probe_enough(const ngx_payment_shard_t *shard,
    ngx_uint_t answers);


ngx_payment_probe_t *
ngx_payment_probe_create(ngx_cycle_t *cycle, ngx_payment_shard_t *shard)
{
    ngx_uint_t            i;
    ngx_payment_probe_t  *p;

    p = ngx_pcalloc(cycle->pool, sizeof(ngx_payment_probe_t));
    if (p == NULL) {
        return NULL;
    }

    p->shard = shard;
    p->log = cycle->log;
    p->voted = ngx_current_msec;

    for (i = 0; i < shard->servers.nelts; i++) {
        p->servers[i].probe = p;
    }

    p->timer.handler = ngx_payment_probe_timer;
    p->timer.data = p;
    p->timer.log = cycle->log;
    p->timer.cancelable = 1;

    ngx_payment_probe_look(p);
    ngx_add_timer(&p->timer, NGX_PAYMENT_PROBE_TICK);

    return p;
}


void
ngx_payment_probe_close(ngx_payment_probe_t *p)
{
    ngx_uint_t                   i;
    ngx_payment_probe_server_t  *s;

    if (p->timer.timer_set) {
        ngx_del_timer(&p->timer);
    }

    for (i = 0; i < p->shard->servers.nelts; i++) {
        s = &p->servers[i];

        if (s->busy) {
            ngx_payment_attempt_abandon(s->attempt);

        } else if (s->attempt) {
            ngx_payment_attempt_free(s->attempt);
        }

        s->attempt = NULL;
    }

    ngx_payment_gtid_save(p->shard, p->log);
}


static void
ngx_payment_probe_timer(ngx_event_t *ev)
{
    ngx_msec_t                   interval;
    ngx_payment_probe_t         *p;
    ngx_payment_common_shard_t  *common;

    p = ev->data;
    common = p->shard->common;

    interval = ((common->claimed && !common->found) || common->unvoted)
               ? NGX_PAYMENT_PROBE_SOON : NGX_PAYMENT_PROBE_INTERVAL;

    if (common->look || ngx_current_msec - p->looked >= interval) {
        ngx_payment_probe_look(p);
    }

    if (!ngx_exiting) {
        ngx_add_timer(&p->timer, NGX_PAYMENT_PROBE_TICK);
    }
}


static void
ngx_payment_probe_look(ngx_payment_probe_t *p)
{
    ngx_uint_t                   i;
    ngx_payment_probe_server_t  *s;

    p->shard->common->look = 0;
    p->looked = ngx_current_msec;

    ngx_payment_gtid_save(p->shard, p->log);

    for (i = 0; i < p->shard->servers.nelts; i++) {
        s = &p->servers[i];

        if (s->busy) {
            continue;
        }

        if (s->attempt == NULL) {
            s->attempt = ngx_payment_attempt_look(p->shard, i, p->log);
            if (s->attempt == NULL) {
                return;
            }
        }

        if (ngx_payment_attempt_start(s->attempt, ngx_payment_probe_done, s)
            == NGX_OK)
        {
            s->busy = 1;

        } else {
            ngx_payment_probe_error(s, s->attempt);
        }
    }
}


static void
ngx_payment_probe_done(ngx_payment_attempt_t *a)
{
    ngx_payment_probe_server_t  *s;

    s = a->data;

    s->busy = 0;

    if (a->error) {
        ngx_payment_probe_error(s, a);

    } else {
        s->error = 0;
        s->valid = 1;
        s->topology = a->topology;
        s->voters = a->voters;
        s->answered = ngx_current_msec;
    }

    ngx_payment_probe_judge(s->probe);
}


/*
 * The connection begins anew.  A server is told of once for each reason, and at
 * a level that is seen only where its say counts: while nobody has claimed the
 * payments, a server that fails is told of by whoever wanted to write to it.
 */

static void
ngx_payment_probe_error(ngx_payment_probe_server_t *s,
    ngx_payment_attempt_t *a)
{
    ngx_uint_t             level;
    ngx_payment_probe_t   *p;
    ngx_payment_server_t  *server;

    p = s->probe;
    level = (p->shard->common->claimed
             || p->shard->durability == NGX_PAYMENT_DURABILITY_REPLICA)
            ? NGX_LOG_WARN : NGX_LOG_INFO;
    server = (ngx_payment_server_t *) p->shard->servers.elts + a->server;

    if (a->error != s->error) {
        ngx_log_error(level, p->log, 0,
                      "payment: shard \"%V\": a look at %V did not succeed, "
                      "%s: (%ui) %s; it has no say in which server is the "
                      "primary",
                      &p->shard->name, &server->name, a->phase, a->error,
                      a->message);
    }

    s->error = a->error;
    s->valid = 0;
    s->attempt = NULL;

    ngx_payment_attempt_free(a);
}


static void
ngx_payment_probe_judge(ngx_payment_probe_t *p)
{
    uint64_t                     epoch;
    ngx_uint_t                   i, answers, primary;
    ngx_payment_shard_t         *shard;
    ngx_payment_topology_t      *t;
    ngx_payment_common_shard_t  *common;

    shard = p->shard;
    common = shard->common;
    answers = 0;
    epoch = 0;

    for (i = 0; i < shard->servers.nelts; i++) {

        if (p->servers[i].valid
            && ngx_current_msec - p->servers[i].answered
               > NGX_PAYMENT_PROBE_FRESH)
        {
            p->servers[i].valid = 0;
        }

        if (p->servers[i].valid && p->servers[i].topology.known
            && !ngx_payment_probe_twice(p, i))
        {
            answers++;
            epoch = ngx_max(epoch, p->servers[i].topology.epoch);
        }
    }

    (void) ngx_payment_common_epoch(shard, epoch);

    if (ngx_exiting) {
        return;
    }

    if (!ngx_payment_probe_enough(shard, answers)) {
        ngx_payment_probe_alone(p);
        return;
    }

    common->seen = ngx_current_msec ? ngx_current_msec : 1;
    primary = shard->servers.nelts;

    for (i = 0; i < shard->servers.nelts; i++) {
        t = &p->servers[i].topology;

        if (!p->servers[i].valid || !t->known || t->epoch != common->epoch) {
            continue;
        }

        common->claimed = t->claims;
        common->frozen = t->claims && t->claimed == 0;

        if (t->claims
            && ngx_payment_topology_objection(shard, t) == NULL)
        {
            primary = i;
        }
    }

    if (primary == shard->servers.nelts) {
        common->found = 0;
        ngx_payment_probe_nobody(p);
        return;
    }

    p->servers[primary].objection = NULL;

    if (!common->found
        || ngx_payment_common_server(shard, common->primary) != primary)
    {
        common->found = 1;
        ngx_payment_common_take(shard, primary);

        /* its replicas may be on their way to it */
        p->voted = ngx_current_msec;
    }

    if (shard->durability == NGX_PAYMENT_DURABILITY_REPLICA) {
        ngx_payment_probe_count(p, p->servers[primary].voters);
    }
}


/*
 * Too few servers answer to say who has the payments.  The one that had them
 * may still tell that its voters are gone, as they are if those are the servers
 * that do not answer.
 */

static void
ngx_payment_probe_alone(ngx_payment_probe_t *p)
{
    ngx_payment_shard_t         *shard;
    ngx_payment_common_shard_t  *common;
    ngx_payment_probe_server_t  *s;

    shard = p->shard;
    common = shard->common;

    if (shard->durability != NGX_PAYMENT_DURABILITY_REPLICA || !common->found) {
        return;
    }

    s = &p->servers[ngx_payment_common_server(shard, common->primary)];

    if (s->valid) {
        ngx_payment_probe_count(p, s->voters);
    }
}


/*
 * A server that has claimed the payments, and could write them, is told of once
 * for each reason why it does not get them: its promoter takes it for the
 * primary.
 */

static void
ngx_payment_probe_nobody(ngx_payment_probe_t *p)
{
    ngx_uint_t                   i;
    const char                  *objection;
    ngx_payment_server_t        *servers;
    ngx_payment_topology_t      *t;
    ngx_payment_probe_server_t  *s;

    servers = p->shard->servers.elts;

    for (i = 0; i < p->shard->servers.nelts; i++) {
        s = &p->servers[i];
        t = &s->topology;

        if (!s->valid || !t->writable || !t->claims
            || t->claimed != t->server_id)
        {
            continue;
        }

        objection = ngx_payment_topology_objection(p->shard, t);

        if (objection && objection != s->objection) {
            ngx_log_error(NGX_LOG_ERR, p->log, 0,
                          "payment: shard \"%V\": no server has the payments: "
                          "%V has claimed them with epoch %uL of %uA, and %s",
                          &p->shard->name, &servers[i].name, t->epoch,
                          p->shard->common->epoch, objection);
        }

        s->objection = objection;
    }
}


/*
 * Without a voter each COMMIT would wait until its time is over: payments are
 * refused before, once that has lasted.  And with more voters than two, or than
 * there are other servers here, the two servers that are enough for one primary
 * may not meet the two that are enough for the next.
 */

static void
ngx_payment_probe_count(ngx_payment_probe_t *p, ngx_uint_t voters)
{
    ngx_uint_t                   most, unvoted;
    ngx_payment_common_shard_t  *common;

    common = p->shard->common;
    common->voters = voters;
    most = ngx_min(p->shard->servers.nelts - 1, NGX_PAYMENT_PROBE_VOTERS);

    if (voters > 0 && voters <= most) {
        p->voted = ngx_current_msec;
    }

    unvoted = voters > most
              || ngx_current_msec - p->voted >= NGX_PAYMENT_PROBE_UNVOTED;

    if (common->unvoted == unvoted) {
        return;
    }

    common->unvoted = unvoted;

    if (unvoted) {
        ngx_log_error(NGX_LOG_ERR, p->log, 0,
                      "payment: shard \"%V\": no payments are taken, %ui "
                      "replicas confirm them, there must be 1 to %ui",
                      &p->shard->name, voters, most);
    } else {
        ngx_log_error(NGX_LOG_NOTICE, p->log, 0,
                      "payment: shard \"%V\": payments are taken again, %ui "
                      "replicas confirm them", &p->shard->name, voters);
    }
}


/* One server that has two names is one. */

static ngx_uint_t
ngx_payment_probe_twice(const ngx_payment_probe_t *p, ngx_uint_t server)
{
    ngx_uint_t  i;

    for (i = 0; i < server; i++) {
        if (p->servers[i].valid
            && p->servers[i].topology.server_id
               == p->servers[server].topology.server_id)
        {
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
ngx_payment_probe_enough(const ngx_payment_shard_t *shard, ngx_uint_t answers)
{
    return answers >= (shard->servers.nelts > 2
                       ? shard->servers.nelts / 2 + 1 : 1);
}
