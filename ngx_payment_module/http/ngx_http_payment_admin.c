/*
 * payment_outbox_admin: what an operator sees and does about the outbox.
 *
 * GET shows the state and the dead letters of the shards.  POST changes
 * something, and has a JSON object that names the action.  Only
 * application/json is taken, for no web page can make a browser send that to
 * another site without asking it first.  allow, deny and auth_* say who may
 * come here.
 *
 * Dead letters are read from each shard in turn, on a connection of its own.
 * Everything else is asked of the helper through the shared zone: see
 * ngx_payment_command.h.  Every wait is bounded by the timeouts below.
 */

#include "ngx_http_payment_answer.h"
#include "ngx_http_payment_counters.h"
#include "ngx_http_payment_request.h"
#include "ngx_http_payment_status.h"
#include "ngx_payment_command.h"
#include "ngx_payment_doorbell.h"
#include "ngx_payment_gtid.h"
#include "ngx_payment_query.h"

#include <jansson.h>


#define NGX_HTTP_PAYMENT_ADMIN_BODY       4096
#define NGX_HTTP_PAYMENT_ADMIN_LIMIT      100      /* dead letters shown */
#define NGX_HTTP_PAYMENT_ADMIN_LIMIT_MAX  1000
#define NGX_HTTP_PAYMENT_ADMIN_PAYMENTS   100      /* replayed by one call */

#define NGX_HTTP_PAYMENT_ADMIN_QUERY      5000     /* ms, one shard */
#define NGX_HTTP_PAYMENT_ADMIN_COMMAND    5000     /* ms, one command */
#define NGX_HTTP_PAYMENT_ADMIN_TOTAL      20000    /* ms, one request */
#define NGX_HTTP_PAYMENT_ADMIN_LOOK       5        /* ms, between two looks */

/* the largest id that a command has room for: see ngx_payment_command.h */
#define NGX_HTTP_PAYMENT_ADMIN_ID_MAX     (((uint64_t) 1 << 48) - 1)

#define NGX_HTTP_PAYMENT_ADMIN_METHODS    "GET, HEAD, POST"


typedef struct ngx_http_payment_admin_s  ngx_http_payment_admin_t;


/*
 * What an action does: what its handler does, which reads the body's other
 * members; or else a command to the helper; or, with NONE, a value of a flag in
 * the shared zone.
 */

typedef struct {
    ngx_str_t                      name;
    ngx_payment_command_e          command;
    size_t                         flag;       /* in ngx_payment_stats_t */
    ngx_uint_t                     value;
    ngx_int_t                    (*handler)(ngx_http_payment_admin_t *a,
                                            json_t *body);
} ngx_http_payment_action_t;


struct ngx_http_payment_admin_s {
    ngx_http_request_t            *request;
    ngx_http_payment_main_conf_t  *pmcf;
    const ngx_http_payment_action_t  *action;
    ngx_http_payment_text_t        text;
    ngx_msec_t                     until;      /* the end of the request */

    /* the dead letters of a shard */
    ngx_payment_query_t            query;
    ngx_payment_shard_t           *shard;      /* that is asked now */
    ngx_uint_t                     last;       /* index after the last one */
    uint64_t                       after;
    ngx_uint_t                     limit;
    ngx_uint_t                     rows;
    u_char                         sql[512];

    /* the helper's work */
    ngx_event_t                    timer;
    ngx_atomic_uint_t              command;    /* 0: none is under way */
    ngx_msec_t                     command_until;
    ngx_uint_t                     begun;      /* waited for longer */
    uint64_t                       ids[NGX_HTTP_PAYMENT_ADMIN_PAYMENTS];
    ngx_uint_t                     n;          /* ids */
    ngx_uint_t                     done;       /* ids carried out */
    unsigned                       more:1;     /* there are more than ids */
};


static ngx_http_payment_admin_t *ngx_http_payment_admin_create(
    ngx_http_request_t *r);
static void ngx_http_payment_admin_cleanup(void *data);
static void ngx_http_payment_admin_finish(ngx_http_payment_admin_t *a,
    ngx_int_t rc);
static ngx_int_t ngx_http_payment_admin_fail(ngx_http_payment_admin_t *a,
    payment_outcome_e outcome, const char *field, const char *detail);

static ngx_int_t ngx_http_payment_admin_get(ngx_http_request_t *r);
static ngx_int_t ngx_http_payment_admin_arguments(ngx_http_payment_admin_t *a,
    ngx_int_t *rc);
static ngx_payment_shard_t *ngx_http_payment_admin_shard(
    ngx_http_payment_admin_t *a, const u_char *name, size_t len);
static void ngx_http_payment_admin_list(ngx_http_payment_admin_t *a);
static void ngx_http_payment_admin_list_rows(void *data, MYSQL_RES *result);
static void ngx_http_payment_admin_listed(void *data, const char *error);

static ngx_int_t ngx_http_payment_admin_post(ngx_http_request_t *r);
static void ngx_http_payment_admin_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_payment_admin_do(ngx_http_payment_admin_t *a,
    json_t *body);
static ngx_int_t ngx_http_payment_admin_accept_loss(
    ngx_http_payment_admin_t *a, json_t *body);
static ngx_int_t ngx_http_payment_admin_body_shard(ngx_http_payment_admin_t *a,
    json_t *body, ngx_int_t *rc);
static ngx_int_t ngx_http_payment_admin_replay(ngx_http_payment_admin_t *a,
    json_t *body);
static void ngx_http_payment_admin_replay_rows(void *data, MYSQL_RES *result);
static void ngx_http_payment_admin_replay_all(void *data, const char *error);

static ngx_int_t ngx_http_payment_admin_command(ngx_http_payment_admin_t *a);
static void ngx_http_payment_admin_look(ngx_event_t *ev);
static ngx_int_t ngx_http_payment_admin_result(ngx_http_payment_admin_t *a,
    ngx_payment_command_status_e status);
static ngx_int_t ngx_http_payment_admin_answer(ngx_http_payment_admin_t *a);


static const ngx_http_payment_action_t  ngx_http_payment_admin_actions[] = {
    { ngx_string("pause"), NGX_PAYMENT_COMMAND_NONE,
      offsetof(ngx_payment_stats_t, helper.paused), 1, NULL },
    { ngx_string("resume"), NGX_PAYMENT_COMMAND_NONE,
      offsetof(ngx_payment_stats_t, helper.paused), 0, NULL },
    { ngx_string("drain"), NGX_PAYMENT_COMMAND_NONE,
      offsetof(ngx_payment_stats_t, draining), 1, NULL },
    { ngx_string("undrain"), NGX_PAYMENT_COMMAND_NONE,
      offsetof(ngx_payment_stats_t, draining), 0, NULL },
    { ngx_string("breaker-force-open"), NGX_PAYMENT_COMMAND_BREAKER_OPEN,
      0, 0, NULL },
    { ngx_string("breaker-close"), NGX_PAYMENT_COMMAND_BREAKER_CLOSE,
      0, 0, NULL },
    { ngx_string("breaker-reset"), NGX_PAYMENT_COMMAND_BREAKER_RESET,
      0, 0, NULL },
    { ngx_string("breaker-disable"), NGX_PAYMENT_COMMAND_BREAKER_DISABLE,
      0, 0, NULL },
    { ngx_string("replay"), NGX_PAYMENT_COMMAND_REPLAY, 0, 0,
      ngx_http_payment_admin_replay },
    { ngx_string("accept-loss"), NGX_PAYMENT_COMMAND_NONE, 0, 0,
      ngx_http_payment_admin_accept_loss },
    { ngx_null_string, 0, 0, 0, NULL }
};


ngx_int_t
ngx_http_payment_admin_handler(ngx_http_request_t *r)
{
    payment_fault_t  fault;

    if (r->method == NGX_HTTP_POST) {
        return ngx_http_payment_admin_post(r);
    }

    if (ngx_http_payment_request_discard(r, &fault) != NGX_OK) {
        return ngx_http_payment_answer_problem(r, fault.outcome, NULL,
                                               fault.detail);
    }

    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
        return ngx_http_payment_admin_get(r);
    }

    if (ngx_http_payment_answer_header(r, "Allow",
                                       NGX_HTTP_PAYMENT_ADMIN_METHODS)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_payment_answer_problem(r, PAYMENT_METHOD_NOT_ALLOWED, NULL,
                                           "the method must be "
                                           NGX_HTTP_PAYMENT_ADMIN_METHODS);
}


static ngx_http_payment_admin_t *
ngx_http_payment_admin_create(ngx_http_request_t *r)
{
    ngx_http_cleanup_t        *cln;
    ngx_http_payment_admin_t  *a;

    a = ngx_pcalloc(r->pool, sizeof(ngx_http_payment_admin_t));
    cln = ngx_http_cleanup_add(r, 0);

    if (a == NULL || cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_http_payment_admin_cleanup;
    cln->data = a;

    a->request = r;
    a->pmcf = ngx_http_get_module_main_conf(r, ngx_http_payment_module);
    a->until = ngx_current_msec + NGX_HTTP_PAYMENT_ADMIN_TOTAL;

    a->timer.handler = ngx_http_payment_admin_look;
    a->timer.data = a;
    a->timer.log = ngx_cycle->log;

    a->query.data = a;
    a->query.timeout = NGX_HTTP_PAYMENT_ADMIN_QUERY;

    ngx_http_payment_text_init(&a->text, r);

    return a;
}


/* The request has ended, by its answer or because its client went away. */

static void
ngx_http_payment_admin_cleanup(void *data)
{
    ngx_http_payment_admin_t *a = data;

    ngx_payment_query_cancel(&a->query);

    if (a->timer.timer_set) {
        ngx_del_timer(&a->timer);
    }

    if (a->command) {
        (void) ngx_atomic_cmp_set(&a->pmcf->writer.stats->helper.command,
                                  a->command, NGX_PAYMENT_COMMAND_NONE);
        a->command = 0;
    }
}


/*
 * Ends the request from a timer or a connection to the database.  No caller up
 * the stack will run the requests that this one posted, so it is done here.
 */

static void
ngx_http_payment_admin_finish(ngx_http_payment_admin_t *a, ngx_int_t rc)
{
    ngx_connection_t  *c;

    c = a->request->connection;

    ngx_http_finalize_request(a->request, rc);
    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_payment_admin_fail(ngx_http_payment_admin_t *a,
    payment_outcome_e outcome, const char *field, const char *detail)
{
    return ngx_http_payment_answer_problem(a->request, outcome, field, detail);
}


/* GET shows the state, and the dead letters of one shard or of all. */

static ngx_int_t
ngx_http_payment_admin_get(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_http_payment_admin_t  *a;

    a = ngx_http_payment_admin_create(r);
    if (a == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_payment_admin_arguments(a, &rc) != NGX_OK) {
        return rc;
    }

    ngx_http_payment_text_add(&a->text, "{\"draining\":%s,",
                              a->pmcf->writer.stats->draining ? "true"
                                                              : "false");
    ngx_http_payment_status_outbox(&a->text, a->pmcf);
    ngx_http_payment_text_add(&a->text, ",");
    ngx_http_payment_status_breaker(&a->text, a->pmcf);
    ngx_http_payment_text_add(&a->text, ",\"dead_letters\":[");

    if (a->shard == NULL) {
        ngx_http_payment_text_add(&a->text, "]}\n");
        return ngx_http_payment_text_send(&a->text,
                                          &ngx_http_payment_answer_json);
    }

    r->main->count++;
    r->read_event_handler = ngx_http_test_reading;

    ngx_http_payment_admin_list(a);

    return NGX_DONE;
}


static ngx_int_t
ngx_http_payment_admin_arguments(ngx_http_payment_admin_t *a, ngx_int_t *rc)
{
    off_t                  number;
    ngx_str_t              shard, limit, after;
    payment_fault_t        fault;
    ngx_http_request_t    *r;
    ngx_payment_shard_t  **shards;

    r = a->request;
    shards = a->pmcf->shards.elts;

    a->shard = a->pmcf->shards.nelts ? shards[0] : NULL;
    a->last = a->pmcf->shards.nelts;
    a->limit = NGX_HTTP_PAYMENT_ADMIN_LIMIT;

    if (ngx_http_payment_request_argument(r, "shard", &shard, &fault) != NGX_OK
        || ngx_http_payment_request_argument(r, "limit", &limit, &fault)
           != NGX_OK
        || ngx_http_payment_request_argument(r, "after", &after, &fault)
           != NGX_OK)
    {
        *rc = ngx_http_payment_admin_fail(a, fault.outcome, fault.field,
                                          fault.detail);
        return NGX_ERROR;
    }

    if (shard.data) {
        a->shard = ngx_http_payment_admin_shard(a, shard.data, shard.len);

        if (a->shard == NULL) {
            *rc = ngx_http_payment_admin_fail(a, PAYMENT_NOT_FOUND, "shard",
                                              "there is no such shard");
            return NGX_ERROR;
        }

        a->last = a->shard->index + 1;
    }

    if (limit.data) {
        number = ngx_atoof(limit.data, limit.len);

        if (number < 1 || number > NGX_HTTP_PAYMENT_ADMIN_LIMIT_MAX) {
            *rc = ngx_http_payment_admin_fail(a, PAYMENT_INVALID, "limit",
                                              "limit must be a number from 1 "
                                              "to 1000");
            return NGX_ERROR;
        }

        a->limit = (ngx_uint_t) number;
    }

    if (after.data) {
        number = ngx_atoof(after.data, after.len);

        if (number < 0) {
            *rc = ngx_http_payment_admin_fail(a, PAYMENT_INVALID, "after",
                                              "after must be a dead letter's "
                                              "id");
            return NGX_ERROR;
        }

        a->after = (uint64_t) number;
    }

    return NGX_OK;
}


static ngx_payment_shard_t *
ngx_http_payment_admin_shard(ngx_http_payment_admin_t *a, const u_char *name,
    size_t len)
{
    ngx_uint_t             i;
    ngx_payment_shard_t  **shards;

    shards = a->pmcf->shards.elts;

    for (i = 0; i < a->pmcf->shards.nelts; i++) {
        if (shards[i]->name.len == len
            && ngx_memcmp(shards[i]->name.data, name, len) == 0)
        {
            return shards[i];
        }
    }

    return NULL;
}


/* Asks for one dead letter more than is shown: it says that there are more. */

static void
ngx_http_payment_admin_list(ngx_http_payment_admin_t *a)
{
    a->query.shard = a->shard;
    a->query.rows = ngx_http_payment_admin_list_rows;
    a->query.done = ngx_http_payment_admin_listed;

    a->query.sql.data = a->sql;
    a->query.sql.len = ngx_slprintf(a->sql, a->sql + sizeof(a->sql),
        "SELECT id, aggregateid, type, merchant_id, version,"
        " DATE_FORMAT(created_at, '%%Y-%%m-%%dT%%H:%%i:%%s.%%fZ'),"
        " reason, attempts,"
        " DATE_FORMAT(dead_at, '%%Y-%%m-%%dT%%H:%%i:%%s.%%fZ')"
        " FROM outbox_dead WHERE id > %uL ORDER BY id LIMIT %ui",
        a->after, a->limit + 1) - a->sql;

    a->rows = 0;

    ngx_http_payment_text_add(&a->text, "{\"shard\":\"%V\",\"events\":[",
                              &a->shard->name);

    ngx_payment_query_start(&a->query);
}


static void
ngx_http_payment_admin_list_rows(void *data, MYSQL_RES *result)
{
    ngx_http_payment_admin_t *a = data;

    ngx_str_t       texts[9];
    MYSQL_ROW       row;
    ngx_uint_t      i;
    unsigned long  *lengths;

    while ((row = mysql_fetch_row(result)) != NULL) {

        if (a->rows++ == a->limit) {
            return;
        }

        lengths = mysql_fetch_lengths(result);

        for (i = 0; i < 9; i++) {
            texts[i].data = (u_char *) (row[i] ? row[i] : "");
            texts[i].len = row[i] ? lengths[i] : 0;
        }

        ngx_http_payment_text_add(&a->text, "%s{\"id\":%V,\"paymentId\":",
                                  a->rows > 1 ? "," : "", &texts[0]);
        ngx_http_payment_text_string(&a->text, &texts[1]);
        ngx_http_payment_text_add(&a->text, ",\"type\":");
        ngx_http_payment_text_string(&a->text, &texts[2]);
        ngx_http_payment_text_add(&a->text, ",\"merchantId\":");
        ngx_http_payment_text_string(&a->text, &texts[3]);
        ngx_http_payment_text_add(&a->text, ",\"version\":%V,\"createdAt\":"
                                  "\"%V\",\"reason\":", &texts[4], &texts[5]);
        ngx_http_payment_text_string(&a->text, &texts[6]);
        ngx_http_payment_text_add(&a->text, ",\"attempts\":%V,\"deadAt\":"
                                  "\"%V\"}", &texts[7], &texts[8]);
    }
}


static void
ngx_http_payment_admin_listed(void *data, const char *error)
{
    ngx_http_payment_admin_t *a = data;

    ngx_uint_t             next;
    ngx_payment_shard_t  **shards;

    ngx_http_payment_text_add(&a->text, "],\"more\":%s",
                              a->rows > a->limit ? "true" : "false");

    if (error) {
        ngx_http_payment_text_add(&a->text, ",\"error\":\"%s\"", error);
    }

    ngx_http_payment_text_add(&a->text, "}");

    next = a->shard->index + 1;

    if (next < a->last && (ngx_msec_int_t) (a->until - ngx_current_msec) > 0) {
        shards = a->pmcf->shards.elts;
        a->shard = shards[next];

        ngx_http_payment_text_add(&a->text, ",");
        ngx_http_payment_admin_list(a);
        return;
    }

    ngx_http_payment_text_add(&a->text, "]}\n");

    ngx_http_payment_admin_finish(a, ngx_http_payment_text_send(&a->text,
                                             &ngx_http_payment_answer_json));
}


/* POST does what a body such as {"action":"pause"} says. */

static ngx_int_t
ngx_http_payment_admin_post(ngx_http_request_t *r)
{
    ngx_int_t        rc;
    payment_fault_t  fault;

    rc = ngx_http_payment_request_json(r, &fault);

    if (rc == NGX_OK
        && r->headers_in.content_length_n > NGX_HTTP_PAYMENT_ADMIN_BODY)
    {
        (void) payment_fault_set(&fault, PAYMENT_TOO_LARGE, "",
                                 "the body is too large");
        rc = NGX_DECLINED;
    }

    if (rc != NGX_OK) {
        (void) ngx_http_payment_request_discard(r, &fault);
        return ngx_http_payment_answer_problem(r, fault.outcome, NULL,
                                               fault.detail);
    }

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_payment_admin_body);

    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}


static void
ngx_http_payment_admin_body(ngx_http_request_t *r)
{
    json_t                    *body;
    ngx_int_t                  rc;
    ngx_str_t                  text;
    ngx_http_payment_admin_t  *a;

    a = ngx_http_payment_admin_create(r);
    if (a == NULL) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    body = NULL;
    rc = ngx_http_payment_request_body(r, NGX_HTTP_PAYMENT_ADMIN_BODY, &text);

    if (rc == NGX_OK) {
        body = json_loadb((char *) text.data, text.len, JSON_REJECT_DUPLICATES,
                          NULL);
    }

    if (rc == NGX_DECLINED) {
        rc = ngx_http_payment_admin_fail(a, PAYMENT_TOO_LARGE, NULL,
                                         "the body is too large");

    } else if (rc == NGX_ERROR) {
        rc = NGX_HTTP_INTERNAL_SERVER_ERROR;

    } else if (!json_is_object(body)) {
        rc = ngx_http_payment_admin_fail(a, PAYMENT_INVALID, NULL,
                                         "the body must be a JSON object");

    } else {
        rc = ngx_http_payment_admin_do(a, body);
    }

    json_decref(body);

    if (rc != NGX_AGAIN) {
        ngx_http_finalize_request(r, rc);
        return;
    }

    /* if the client closes its connection, the command is taken back */

    r->read_event_handler = ngx_http_test_reading;
}


static ngx_int_t
ngx_http_payment_admin_do(ngx_http_payment_admin_t *a, json_t *body)
{
    json_t                           *name;
    ngx_payment_stats_t              *stats;
    const ngx_http_payment_action_t  *action;

    name = json_object_get(body, "action");

    for (action = ngx_http_payment_admin_actions; action->name.len; action++) {
        if (json_is_string(name)
            && json_string_length(name) == action->name.len
            && ngx_memcmp(json_string_value(name), action->name.data,
                          action->name.len)
               == 0)
        {
            break;
        }
    }

    if (action->name.len == 0) {
        return ngx_http_payment_admin_fail(a, PAYMENT_INVALID, "action",
                                           "action must be pause, resume, "
                                           "drain, undrain, replay, "
                                           "breaker-force-open, "
                                           "breaker-close, breaker-reset, "
                                           "breaker-disable or accept-loss");
    }

    a->action = action;

    if (action->handler) {
        return action->handler(a, body);
    }

    if (json_object_size(body) != 1) {
        return ngx_http_payment_admin_fail(a, PAYMENT_INVALID, NULL,
                                           "the action takes nothing else");
    }

    if (action->command == NGX_PAYMENT_COMMAND_NONE) {

        /* a pause holds while there is no helper, and for the next one */

        stats = a->pmcf->writer.stats;
        *(ngx_atomic_t *) ((u_char *) stats + action->flag) = action->value;

        ngx_payment_doorbell_ring(a->pmcf->outbox.doorbell,
                                  &stats->command_armed);

        return ngx_http_payment_admin_answer(a);
    }

    if (a->pmcf->outbox.enable && !a->pmcf->outbox.breaker_enable) {
        return ngx_http_payment_admin_fail(a, PAYMENT_INVALID, "action",
                                           "the action needs a breaker, "
                                           "and payment_breaker is off");
    }

    return ngx_http_payment_admin_command(a);
}


/* {"action":"accept-loss","shard":"main"}: the shard's primary gets payments
 * again though it lacks some that were answered. */

static ngx_int_t
ngx_http_payment_admin_accept_loss(ngx_http_payment_admin_t *a, json_t *body)
{
    ngx_int_t           rc;
    ngx_payment_gtid_t  last;

    if (ngx_http_payment_admin_body_shard(a, body, &rc) != NGX_OK) {
        return rc;
    }

    if (json_object_size(body) != 2) {
        return ngx_http_payment_admin_fail(a, PAYMENT_INVALID, NULL,
                                           "accept-loss takes shard, and "
                                           "nothing else");
    }

    ngx_payment_gtid_last(a->shard, &last);
    ngx_payment_gtid_forget(a->shard);

    ngx_log_error(NGX_LOG_WARN, a->request->connection->log, 0,
                  "payment: shard \"%V\": the loss of payments up to "
                  "%uD-%uD-%uL is accepted", &a->shard->name, last.domain,
                  last.server_id, last.number);

    return ngx_http_payment_admin_answer(a);
}


/* The shard that the body names: NGX_OK, or *rc is the answer. */

static ngx_int_t
ngx_http_payment_admin_body_shard(ngx_http_payment_admin_t *a, json_t *body,
    ngx_int_t *rc)
{
    json_t  *name;

    name = json_object_get(body, "shard");

    if (!json_is_string(name)) {
        *rc = ngx_http_payment_admin_fail(a, PAYMENT_INVALID, "shard",
                                          "shard must be a shard's name");
        return NGX_DECLINED;
    }

    a->shard = ngx_http_payment_admin_shard(a,
                                     (const u_char *) json_string_value(name),
                                     json_string_length(name));
    if (a->shard == NULL) {
        *rc = ngx_http_payment_admin_fail(a, PAYMENT_NOT_FOUND, "shard",
                                          "there is no such shard");
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/* {"action":"replay","shard":"main"[,"id":123]}; no id means all of them. */

static ngx_int_t
ngx_http_payment_admin_replay(ngx_http_payment_admin_t *a, json_t *body)
{
    json_t      *id;
    ngx_int_t    rc;
    json_int_t   value;

    static const char  all[] =
        "SELECT MIN(id) FROM outbox_dead GROUP BY aggregateid ORDER BY 1 "
        "LIMIT ";

    if (ngx_http_payment_admin_body_shard(a, body, &rc) != NGX_OK) {
        return rc;
    }

    id = json_object_get(body, "id");

    if (json_object_size(body) != (id ? 3 : 2)) {
        return ngx_http_payment_admin_fail(a, PAYMENT_INVALID, NULL,
                                           "replay takes shard and id, and "
                                           "nothing else");
    }

    if (id) {
        value = json_is_integer(id) ? json_integer_value(id) : 0;

        if (value < 1
            || (uint64_t) value > NGX_HTTP_PAYMENT_ADMIN_ID_MAX)
        {
            return ngx_http_payment_admin_fail(a, PAYMENT_INVALID, "id",
                                               "id must be a dead letter's "
                                               "id");
        }

        a->ids[0] = value;
        a->n = 1;

        return ngx_http_payment_admin_command(a);
    }

    a->query.shard = a->shard;
    a->query.rows = ngx_http_payment_admin_replay_rows;
    a->query.done = ngx_http_payment_admin_replay_all;

    a->query.sql.data = a->sql;
    a->query.sql.len = ngx_slprintf(a->sql, a->sql + sizeof(a->sql), "%s%d",
                                    all, NGX_HTTP_PAYMENT_ADMIN_PAYMENTS + 1)
                       - a->sql;

    ngx_payment_query_start(&a->query);

    return NGX_AGAIN;
}


/*
 * Takes down the first dead letter of each payment.  The helper replays all
 * dead letters of the payment together with it.
 */

static void
ngx_http_payment_admin_replay_rows(void *data, MYSQL_RES *result)
{
    ngx_http_payment_admin_t *a = data;

    off_t      id;
    MYSQL_ROW  row;

    while ((row = mysql_fetch_row(result)) != NULL) {

        id = row[0] ? ngx_atoof((u_char *) row[0], ngx_strlen(row[0])) : 0;

        if (id < 1 || (uint64_t) id > NGX_HTTP_PAYMENT_ADMIN_ID_MAX) {
            continue;
        }

        if (a->n == NGX_HTTP_PAYMENT_ADMIN_PAYMENTS) {
            a->more = 1;
            return;
        }

        a->ids[a->n++] = id;
    }
}


static void
ngx_http_payment_admin_replay_all(void *data, const char *error)
{
    ngx_http_payment_admin_t *a = data;

    ngx_int_t  rc;

    if (error) {
        rc = ngx_http_payment_admin_fail(a, PAYMENT_UNAVAILABLE, NULL, error);

    } else if (a->n == 0) {
        rc = ngx_http_payment_admin_answer(a);

    } else {
        rc = ngx_http_payment_admin_command(a);
    }

    if (rc != NGX_AGAIN) {
        ngx_http_payment_admin_finish(a, rc);
    }
}


/*
 * Leaves a command for the helper in the shared zone.  NGX_AGAIN:
 * ngx_http_payment_admin_look() will see its result.
 */

static ngx_int_t
ngx_http_payment_admin_command(ngx_http_payment_admin_t *a)
{
    ngx_atomic_uint_t            command;
    ngx_payment_helper_stats_t  *h;

    h = &a->pmcf->writer.stats->helper;

    if (!a->pmcf->outbox.enable || !ngx_http_payment_counters_up(h)) {
        return ngx_http_payment_admin_fail(a, PAYMENT_UNAVAILABLE, NULL,
                                           "there is no helper process here");
    }

    command = ngx_payment_command(a->action->command,
                                  a->shard ? a->shard->index : 0,
                                  a->n ? a->ids[a->done] : 0);

    if (!ngx_atomic_cmp_set(&h->command, NGX_PAYMENT_COMMAND_NONE, command)) {
        return ngx_http_payment_admin_fail(a, PAYMENT_UNAVAILABLE, NULL,
                                           "another command is under way");
    }

    a->command = command;
    a->begun = 0;
    a->command_until = ngx_current_msec + NGX_HTTP_PAYMENT_ADMIN_COMMAND;

    ngx_payment_doorbell_ring(a->pmcf->outbox.doorbell,
                              &a->pmcf->writer.stats->command_armed);
    ngx_add_timer(&a->timer, NGX_HTTP_PAYMENT_ADMIN_LOOK);

    return NGX_AGAIN;
}


/*
 * The helper has no way to wake a worker, so the worker looks every
 * NGX_HTTP_PAYMENT_ADMIN_LOOK ms whether the command is done.
 */

static void
ngx_http_payment_admin_look(ngx_event_t *ev)
{
    ngx_http_payment_admin_t *a = ev->data;

    ngx_int_t                    rc;
    ngx_atomic_uint_t            command, result;
    ngx_payment_helper_stats_t  *h;

    h = &a->pmcf->writer.stats->helper;
    command = h->command;

    if ((command & ~NGX_PAYMENT_COMMAND_BEGUN) == a->command) {

        if ((ngx_msec_int_t) (a->command_until - ngx_current_msec) > 0) {
            ngx_add_timer(&a->timer, NGX_HTTP_PAYMENT_ADMIN_LOOK);
            return;
        }

        if (command != a->command) {

            /* it can't be taken back, and ends within its statement's time */

            if (!a->begun) {
                a->begun = 1;
                a->command_until += NGX_HTTP_PAYMENT_ADMIN_COMMAND;
                ngx_add_timer(&a->timer, NGX_HTTP_PAYMENT_ADMIN_LOOK);
                return;
            }

            a->command = 0;
            ngx_http_payment_admin_finish(a,
                ngx_http_payment_admin_fail(a, PAYMENT_UNAVAILABLE, NULL,
                                            "the command is being carried "
                                            "out, and its outcome is not "
                                            "known yet"));
            return;
        }

        if (ngx_atomic_cmp_set(&h->command, a->command,
                               NGX_PAYMENT_COMMAND_NONE))
        {
            a->command = 0;
            ngx_http_payment_admin_finish(a,
                ngx_http_payment_admin_fail(a, PAYMENT_UNAVAILABLE, NULL,
                                            "the helper process did not carry "
                                            "it out in time"));
            return;
        }
    }

    a->command = 0;
    result = h->command_result;

    rc = ngx_http_payment_admin_result(a, ngx_payment_result_status(result));

    if (rc != NGX_AGAIN) {
        ngx_http_payment_admin_finish(a, rc);
    }
}


static ngx_int_t
ngx_http_payment_admin_result(ngx_http_payment_admin_t *a,
    ngx_payment_command_status_e status)
{
    /* one of many dead letters may be gone meanwhile, and the rest go on */

    if (status == NGX_PAYMENT_COMMAND_DONE
        || (status == NGX_PAYMENT_COMMAND_NOT_FOUND && a->n > 1))
    {
        a->done++;

        if (a->done >= a->n) {
            return ngx_http_payment_admin_answer(a);
        }

        if ((ngx_msec_int_t) (a->until - ngx_current_msec) <= 0) {
            a->more = 1;
            return ngx_http_payment_admin_answer(a);
        }

        return ngx_http_payment_admin_command(a);
    }

    switch (status) {

    case NGX_PAYMENT_COMMAND_NOT_HERE:
        return ngx_http_payment_admin_fail(a, PAYMENT_UNAVAILABLE, NULL,
                                           "another node has the shard's "
                                           "lease: ask there");

    case NGX_PAYMENT_COMMAND_NOT_FOUND:
        return ngx_http_payment_admin_fail(a, PAYMENT_NOT_FOUND, "id",
                                           "no dead letter has this id");

    default:
        return ngx_http_payment_admin_fail(a, PAYMENT_UNAVAILABLE, NULL,
                                           "the helper process could not do "
                                           "it: see the error log");
    }
}


/* Answers with what was done, and the state after it. */

static ngx_int_t
ngx_http_payment_admin_answer(ngx_http_payment_admin_t *a)
{
    ngx_log_error(NGX_LOG_NOTICE, a->request->connection->log, 0,
                  "payment: outbox admin: %V done", &a->action->name);

    ngx_http_payment_text_add(&a->text, "{\"action\":\"%V\","
                              "\"draining\":%s,", &a->action->name,
                              a->pmcf->writer.stats->draining ? "true"
                                                              : "false");

    if (a->action->command == NGX_PAYMENT_COMMAND_REPLAY) {
        ngx_http_payment_text_add(&a->text, "\"shard\":\"%V\","
                                  "\"replayed_payments\":%ui,\"more\":%s,",
                                  &a->shard->name, a->done,
                                  a->more ? "true" : "false");
    }

    ngx_http_payment_status_outbox(&a->text, a->pmcf);
    ngx_http_payment_text_add(&a->text, ",");
    ngx_http_payment_status_breaker(&a->text, a->pmcf);
    ngx_http_payment_text_add(&a->text, "}\n");

    return ngx_http_payment_text_send(&a->text, &ngx_http_payment_answer_json);
}
