/* How many copies of its events Kafka keeps: see
 * ngx_payment_producer_copies.h. */

#include "ngx_payment_producer_copies.h"


#define NGX_PAYMENT_PRODUCER_COPIES_TIMEOUT   2000      /* ms */

/* so many brokers may have an event, and so many must when it is acknowledged:
 * then any one of them can be lost, and events go on */
#define NGX_PAYMENT_PRODUCER_COPIES_REPLICAS  3
#define NGX_PAYMENT_PRODUCER_COPIES_INSYNC    2

#define NGX_PAYMENT_PRODUCER_COPIES_PROPERTY  "min.insync.replicas"


static void ngx_payment_producer_copies_replicas(
    ngx_payment_producer_copies_t *c);
static ngx_uint_t ngx_payment_producer_copies_least(
    const rd_kafka_metadata_topic_t *topic);
static void ngx_payment_producer_copies_describe(
    ngx_payment_producer_copies_t *c);
static ngx_uint_t ngx_payment_producer_copies_insync(
    const rd_kafka_DescribeConfigs_result_t *result, const char *name);
static void ngx_payment_producer_copies_judge(
    ngx_payment_producer_topic_t *t, ngx_uint_t replicas, ngx_uint_t insync,
    ngx_log_t *log);


ngx_payment_producer_copies_t *
ngx_payment_producer_copies_create(rd_kafka_t *rk,
    ngx_payment_producer_topic_t *topics, ngx_uint_t n, ngx_log_t *log)
{
    u_char                         *p;
    ngx_uint_t                      i;
    ngx_payment_producer_copies_t  *c;

    c = ngx_calloc(sizeof(ngx_payment_producer_copies_t)
                   + n * (sizeof(char *) + sizeof(ngx_uint_t)
                          + sizeof(rd_kafka_resp_err_t)
                          + NGX_PAYMENT_PRODUCER_TOPIC_LEN + 1), log);
    if (c == NULL) {
        return NULL;
    }

    c->names = (char **) (c + 1);
    c->replicas = (ngx_uint_t *) (c->names + n);
    c->errors = (rd_kafka_resp_err_t *) (c->replicas + n);
    p = (u_char *) (c->errors + n);

    for (i = 0; i < n; i++) {
        c->names[i] = (char *) p;
        p = ngx_cpystrn(p, topics[i].name, NGX_PAYMENT_PRODUCER_TOPIC_LEN + 1)
            + 1;
    }

    c->n = n;
    c->rk = rk;
    c->queue = rd_kafka_queue_get_main(rk);

    return c;
}


void
ngx_payment_producer_copies_free(ngx_payment_producer_copies_t *c)
{
    rd_kafka_queue_destroy(c->queue);
    ngx_free(c);
}


void
ngx_payment_producer_copies_end(ngx_payment_producer_copies_t *c)
{
    (void) pthread_join(c->tid, NULL);
    ngx_payment_producer_copies_free(c);
}


void *
ngx_payment_producer_copies_thread(void *data)
{
    ngx_payment_producer_copies_replicas(data);
    ngx_payment_producer_copies_describe(data);

    return NULL;
}


/* A topic that is not there stays unknown. */

static void
ngx_payment_producer_copies_replicas(ngx_payment_producer_copies_t *c)
{
    int                         i;
    ngx_uint_t                  n;
    const rd_kafka_metadata_t  *metadata;

    /* of the topics that this producer knows */

    if (rd_kafka_metadata(c->rk, 0, NULL, &metadata,
                          NGX_PAYMENT_PRODUCER_COPIES_TIMEOUT)
        != RD_KAFKA_RESP_ERR_NO_ERROR)
    {
        return;
    }

    for (i = 0; i < metadata->topic_cnt; i++) {
        for (n = 0; n < c->n; n++) {
            if (ngx_strcmp(metadata->topics[i].topic, c->names[n]) == 0) {
                c->errors[n] = metadata->topics[i].err;
                c->replicas[n] =
                       ngx_payment_producer_copies_least(&metadata->topics[i]);
            }
        }
    }

    rd_kafka_metadata_destroy(metadata);
}


static ngx_uint_t
ngx_payment_producer_copies_least(const rd_kafka_metadata_topic_t *topic)
{
    int  i, least;

    least = 0;

    for (i = 0; i < topic->partition_cnt; i++) {
        if (i == 0 || topic->partitions[i].replica_cnt < least) {
            least = topic->partitions[i].replica_cnt;
        }
    }

    return least > 0 ? (ngx_uint_t) least : 0;
}


static void
ngx_payment_producer_copies_describe(ngx_payment_producer_copies_t *c)
{
    char                         errstr[128];
    ngx_uint_t                   i;
    rd_kafka_AdminOptions_t     *options;
    rd_kafka_ConfigResource_t  **resources;

    /* the library's own constructors do not fail, nor does this little */

    resources = malloc(c->n * sizeof(rd_kafka_ConfigResource_t *));
    if (resources == NULL) {
        return;
    }

    for (i = 0; i < c->n; i++) {
        resources[i] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC,
                                                   c->names[i]);
    }

    options = rd_kafka_AdminOptions_new(c->rk,
                                        RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    (void) rd_kafka_AdminOptions_set_request_timeout(options,
                                          NGX_PAYMENT_PRODUCER_COPIES_TIMEOUT,
                                          errstr, sizeof(errstr));

    rd_kafka_DescribeConfigs(c->rk, resources, c->n, options, c->queue);

    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_ConfigResource_destroy_array(resources, c->n);
    free(resources);
}


ngx_uint_t
ngx_payment_producer_copies_told(ngx_payment_producer_copies_t *c,
    rd_kafka_event_t *event, ngx_payment_producer_topic_t *topics,
    ngx_log_t *log)
{
    ngx_uint_t  i, known;

    known = 0;

    for (i = 0; i < c->n; i++) {

        if (c->replicas[i] == 0) {
            ngx_payment_producer_topic_unknown(&topics[i], c->errors[i], log);
            continue;
        }

        known++;
        ngx_payment_producer_topic_known(&topics[i], log);

        ngx_payment_producer_copies_judge(&topics[i], c->replicas[i],
            ngx_payment_producer_copies_insync(
                rd_kafka_event_DescribeConfigs_result(event), c->names[i]),
            log);
    }

    return known;
}


/* 0: not known, be it that this user may not ask. */

static ngx_uint_t
ngx_payment_producer_copies_insync(
    const rd_kafka_DescribeConfigs_result_t *result, const char *name)
{
    size_t                             i, n, entries;
    const char                        *value;
    const rd_kafka_ConfigEntry_t     **entry;
    const rd_kafka_ConfigResource_t  **resources;

    resources = rd_kafka_DescribeConfigs_result_resources(result, &n);

    for (i = 0; i < n; i++) {

        if (ngx_strcmp(rd_kafka_ConfigResource_name(resources[i]), name) == 0) {
            break;
        }
    }

    if (i == n) {
        return 0;
    }

    entry = rd_kafka_ConfigResource_configs(resources[i], &entries);

    for (i = 0; i < entries; i++) {

        if (ngx_strcmp(rd_kafka_ConfigEntry_name(entry[i]),
                       NGX_PAYMENT_PRODUCER_COPIES_PROPERTY)
            == 0)
        {
            value = rd_kafka_ConfigEntry_value(entry[i]);

            return value ? strtoul(value, NULL, 10) : 0;
        }
    }

    return 0;
}


/* A word for each change: the next producer asks again. */

static void
ngx_payment_producer_copies_judge(ngx_payment_producer_topic_t *t,
    ngx_uint_t replicas, ngx_uint_t insync, ngx_log_t *log)
{
    u_char  said[NGX_INT_T_LEN + 1];

    if (t->replicas == replicas && t->insync == insync) {
        return;
    }

    t->replicas = replicas;
    t->insync = insync;

    if (replicas >= NGX_PAYMENT_PRODUCER_COPIES_REPLICAS
        && (insync == 0 || insync >= NGX_PAYMENT_PRODUCER_COPIES_INSYNC))
    {
        return;
    }

    ngx_sprintf(said, "%ui%Z", insync);

    ngx_log_error(NGX_LOG_WARN, log, 0,
                  "payment outbox: topic \"%s\" has replication factor %ui and "
                  NGX_PAYMENT_PRODUCER_COPIES_PROPERTY " %s: events that Kafka "
                  "has acknowledged can be lost with one broker, unless there "
                  "are at least %d replicas, and %d in sync",
                  t->name, replicas, insync ? said : (u_char *) "unknown",
                  NGX_PAYMENT_PRODUCER_COPIES_REPLICAS,
                  NGX_PAYMENT_PRODUCER_COPIES_INSYNC);
}
