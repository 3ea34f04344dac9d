/*
 * What librdkafka is told: the two profiles, the properties set by name, and
 * what of them makes no sense together.
 *
 * Owner: the process that reads the configuration, and the helper.
 *
 * Only rd_kafka_new() knows what contradicts what, and it starts threads; a
 * master must have none.  So the question is put in a forked child, which is
 * given no broker to talk to, and ten seconds.
 */

#include "ngx_payment_clock.h"
#include "ngx_payment_producer_conf.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>


#define NGX_PAYMENT_CHECK_TIMEOUT     10000      /* ms */
#define NGX_PAYMENT_CHECK_TEXT        1024
#define NGX_PAYMENT_MESSAGE_TIMEOUT   10000      /* ms; less for short leases */
#define NGX_PAYMENT_SCRAM_VERSION     0x020601ff /* librdkafka 2.6.1 */


typedef struct {
    const char  *name;
    const char  *value;
} ngx_payment_preset_t;


static ngx_int_t ngx_payment_producer_conf_presets(rd_kafka_conf_t *rkc,
    const ngx_payment_preset_t *preset, u_char *text, size_t size);
static ngx_int_t ngx_payment_producer_conf_set(rd_kafka_conf_t *rkc,
    const char *name, const char *value, u_char *text, size_t size);
static ngx_int_t ngx_payment_producer_conf_set_number(rd_kafka_conf_t *rkc,
    const char *name, ngx_uint_t value, u_char *text, size_t size);
static const char *ngx_payment_producer_conf_reserved(ngx_str_t *name);
static ngx_int_t ngx_payment_producer_conf_check_values(rd_kafka_conf_t *rkc,
    u_char *text, size_t size);
static void ngx_payment_producer_conf_check_login(rd_kafka_conf_t *rkc,
    ngx_log_t *log);
static ngx_int_t ngx_payment_producer_conf_check_timeout(rd_kafka_conf_t *rkc,
    ngx_payment_outbox_conf_t *conf, u_char *text, size_t size);
static ngx_int_t ngx_payment_producer_conf_check_topic(
    ngx_payment_outbox_conf_t *conf, u_char *text, size_t size);
static void ngx_payment_producer_conf_ask(ngx_payment_outbox_conf_t *conf,
    u_char *text, size_t size, ngx_log_t *log);
static void ngx_payment_producer_conf_ask_child(ngx_payment_outbox_conf_t *conf,
    ngx_fd_t fd);


static const ngx_payment_preset_t  ngx_payment_preset_common[] = {
    { "client.id", "ngx_payment_module" },
    { "compression.codec", "lz4" },
    { "socket.keepalive.enable", "true" },
    { "socket.nagle.disable", "true" },
    { "reconnect.backoff.ms", "100" },
    { "reconnect.backoff.max.ms", "2000" },
    { "topic.metadata.refresh.interval.ms", "60000" },
    { "queue.buffering.max.kbytes", "65536" },
    { "statistics.interval.ms", "5000" },
    { "log.connection.close", "false" },
    { "log.queue", "true" },
    { NULL, NULL }
};


/*
 * With a topic for each type of event, one that is missing must be known to be
 * missing before its events are slow: the library gives a new topic so long to
 * appear, and then asks for it again and again.
 */

static const ngx_payment_preset_t  ngx_payment_preset_topics[] = {
    { "topic.metadata.propagation.max.ms", "1000" },
    { "topic.metadata.refresh.interval.ms", "10000" },
    { NULL, NULL }
};


static const ngx_payment_preset_t  ngx_payment_preset_no_topics[] = {
    { NULL, NULL }
};


/* As far as Kafka can: nothing is lost, repeated or out of order. */

static const ngx_payment_preset_t  ngx_payment_preset_safe[] = {
    { "enable.idempotence", "true" },
    { "acks", "all" },
    { "partitioner", "murmur2_random" },
    { "linger.ms", "1" },
    { NULL, NULL }
};


/* the values of the service that this module replaces */

static const ngx_payment_preset_t  ngx_payment_preset_reference[] = {
    { "enable.idempotence", "false" },
    { "acks", "1" },
    { "partitioner", "murmur2_random" },
    { "max.in.flight.requests.per.connection", "10" },
    { "linger.ms", "50" },
    { "batch.size", "32768" },
    { "queue.buffering.max.kbytes", "131072" },
    { NULL, NULL }
};


char *
ngx_payment_producer_conf_check(ngx_conf_t *cf, ngx_payment_outbox_conf_t *conf)
{
    rd_kafka_conf_t  *rkc;
    u_char            text[NGX_PAYMENT_CHECK_TEXT];

    text[0] = '\0';

    rkc = ngx_payment_producer_conf_create(conf, text, sizeof(text));

    if (rkc) {
        if (ngx_payment_producer_conf_check_values(rkc, text, sizeof(text))
            == NGX_OK)
        {
            (void) ngx_payment_producer_conf_check_timeout(rkc, conf, text,
                                                           sizeof(text));
            ngx_payment_producer_conf_check_login(rkc, cf->log);
        }

        rd_kafka_conf_destroy(rkc);
    }

    if (text[0] == '\0') {
        (void) ngx_payment_producer_conf_check_topic(conf, text, sizeof(text));
    }

    if (text[0] == '\0') {
        ngx_payment_producer_conf_ask(conf, text, sizeof(text), cf->log);
    }

    if (text[0] == '\0') {
        return NGX_CONF_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "the payment_kafka_* directives make no producer: %s", text);

    return NGX_CONF_ERROR;
}


rd_kafka_conf_t *
ngx_payment_producer_conf_create(ngx_payment_outbox_conf_t *conf, u_char *text,
    size_t size)
{
    const char                    *reserved;
    ngx_uint_t                     i, shards, timeout;
    rd_kafka_conf_t               *rkc;
    ngx_payment_kafka_property_t  *property;

    struct {
        const char  *name;
        ngx_uint_t   value;
    } numbers[] = {
        { "message.timeout.ms", 0 },
        { "request.timeout.ms", 0 },
        { "socket.timeout.ms", 0 },
        { "queue.buffering.max.messages", 0 }
    };

    rkc = rd_kafka_conf_new();
    shards = ngx_max(conf->shards->nelts, 1);
    timeout = ngx_payment_producer_conf_timeout(conf);

    if (ngx_payment_producer_conf_presets(rkc, ngx_payment_preset_common, text,
                                          size)
        != NGX_OK
        || ngx_payment_producer_conf_presets(rkc,
                               conf->profile == NGX_PAYMENT_KAFKA_SAFE
                               ? ngx_payment_preset_safe
                               : ngx_payment_preset_reference, text, size)
           != NGX_OK
        || ngx_payment_producer_conf_presets(rkc,
                               ngx_strstr(conf->topic.data, "$event")
                               ? ngx_payment_preset_topics
                               : ngx_payment_preset_no_topics, text, size)
           != NGX_OK)
    {
        goto failed;
    }

    numbers[0].value = timeout;
    numbers[1].value = timeout;
    numbers[2].value = ngx_max(timeout, 1000);
    numbers[3].value = shards * conf->max_in_flight;

    for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (ngx_payment_producer_conf_set_number(rkc, numbers[i].name,
                                                 numbers[i].value, text, size)
            != NGX_OK)
        {
            goto failed;
        }
    }

    property = conf->properties.elts;

    for (i = 0; i < conf->properties.nelts; i++) {

        reserved = ngx_payment_producer_conf_reserved(&property[i].name);

        if (reserved) {
            (void) ngx_snprintf(text, size, "property \"%V\" %s%Z",
                                &property[i].name, reserved);
            goto failed;
        }

        if (ngx_payment_producer_conf_set(rkc, (char *) property[i].name.data,
                                          (char *) property[i].value.data,
                                          text, size)
            != NGX_OK)
        {
            goto failed;
        }
    }

    return rkc;

failed:

    rd_kafka_conf_destroy(rkc);

    return NULL;
}


ngx_msec_t
ngx_payment_producer_conf_timeout(ngx_payment_outbox_conf_t *conf)
{
    ngx_uint_t                     i;
    ngx_int_t                      n;
    ngx_payment_kafka_property_t  *property;

    property = conf->properties.elts;

    for (i = conf->properties.nelts; i > 0; i--) {
        if (ngx_strcmp(property[i - 1].name.data, "message.timeout.ms") == 0
            || ngx_strcmp(property[i - 1].name.data, "delivery.timeout.ms")
               == 0)
        {
            n = ngx_atoi(property[i - 1].value.data,
                         property[i - 1].value.len);

            if (n > 0) {
                return (ngx_msec_t) n;
            }
        }
    }

    return ngx_min(NGX_PAYMENT_MESSAGE_TIMEOUT, conf->lock_at_most_for / 3);
}


size_t
ngx_payment_producer_conf_topic(ngx_payment_outbox_conf_t *conf,
    ngx_str_t *type, u_char *name)
{
    u_char  *p, *last, *from, *end;

    p = name;
    last = name + NGX_PAYMENT_PRODUCER_TOPIC_LEN;
    from = conf->topic.data;
    end = from + conf->topic.len;

    while (from < end) {

        if (end - from >= (ssize_t) sizeof("$event") - 1
            && ngx_strncmp(from, "$event", sizeof("$event") - 1) == 0)
        {
            if ((size_t) (last - p) < type->len) {
                return 0;
            }

            p = ngx_cpymem(p, type->data, type->len);
            from += sizeof("$event") - 1;
            continue;
        }

        if (p == last) {
            return 0;
        }

        *p++ = *from++;
    }

    *p = '\0';

    return p - name;
}


static ngx_int_t
ngx_payment_producer_conf_presets(rd_kafka_conf_t *rkc,
    const ngx_payment_preset_t *preset, u_char *text, size_t size)
{
    for ( /* void */ ; preset->name; preset++) {
        if (ngx_payment_producer_conf_set(rkc, preset->name, preset->value,
                                          text, size)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* The message names the property and not the value, which may be a secret. */

static ngx_int_t
ngx_payment_producer_conf_set(rd_kafka_conf_t *rkc, const char *name,
    const char *value, u_char *text, size_t size)
{
    char                 errstr[256];
    rd_kafka_conf_res_t  rc;

    rc = rd_kafka_conf_set(rkc, name, value, errstr, sizeof(errstr));

    if (rc == RD_KAFKA_CONF_OK) {
        return NGX_OK;
    }

    (void) ngx_snprintf(text, size, "%s \"%s\"%Z",
                        rc == RD_KAFKA_CONF_UNKNOWN
                        ? "librdkafka knows no property"
                        : "librdkafka refuses the value of property", name);

    return NGX_ERROR;
}


static ngx_int_t
ngx_payment_producer_conf_set_number(rd_kafka_conf_t *rkc, const char *name,
    ngx_uint_t value, u_char *text, size_t size)
{
    u_char  buf[NGX_INT_T_LEN + 1];

    (void) ngx_sprintf(buf, "%ui%Z", value);

    return ngx_payment_producer_conf_set(rkc, name, (char *) buf, text, size);
}


static const char *
ngx_payment_producer_conf_reserved(ngx_str_t *name)
{
    ngx_uint_t  i;

    static const struct {
        const char  *name;
        const char  *why;
    } reserved[] = {
        { "bootstrap.servers", "is set by payment_kafka_brokers" },
        { "metadata.broker.list", "is set by payment_kafka_brokers" },
        { "transactional.id", "is not supported: events are fenced by the "
                              "lease, not by Kafka's transactions" },
        { "delivery.report.only.error", "can't be set: an event is deleted "
                                        "when its delivery was reported" },
        { "log.queue", "can't be set" },
        { "enable.gapless.guarantee", "can't be set: order is kept by sending "
                                      "one event of a payment at a time" },
        { NULL, NULL }
    };

    for (i = 0; reserved[i].name; i++) {
        if (ngx_strcmp(name->data, reserved[i].name) == 0) {
            return reserved[i].why;
        }
    }

    return NULL;
}


/*
 * A row is deleted because its delivery was reported.  So a report must mean
 * that Kafka has the event, and there must be a way to Kafka at all.  What
 * counts is the value that the library ends up with, under whichever of its
 * names it was set.
 */

static ngx_int_t
ngx_payment_producer_conf_check_values(rd_kafka_conf_t *rkc, u_char *text,
    size_t size)
{
    char        value[64];
    size_t      len;
    ngx_uint_t  i;

    static const struct {
        const char  *name;
        const char  *value;
        const char  *why;
    } refused[] = {
        { "request.required.acks", "0",
          "would report events as delivered that no broker has" },
        { "test.mock.num.brokers", NULL,
          "would report events as delivered that no broker has" },
        { "partitioner", "random",
          "would scatter a payment's events over partitions, out of order" },
        { "sasl.mechanisms", "OAUTHBEARER",
          "is not supported: librdkafka's own refresh of tokens ends the "
          "process, and there is no other source of tokens" }
    };

    for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {

        len = sizeof(value);

        if (rd_kafka_conf_get(rkc, refused[i].name, value, &len)
            != RD_KAFKA_CONF_OK)
        {
            continue;
        }

        if (refused[i].value ? ngx_strcasecmp((u_char *) value,
                                              (u_char *) refused[i].value) == 0
                             : ngx_strcmp(value, "0") != 0)
        {
            (void) ngx_snprintf(text, size, "\"%s\" of %s %s%Z",
                                refused[i].name, value, refused[i].why);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* librdkafka sent a nonce that is not SCRAM's, until 2.6.1, and Kafka minded it
 * never before 4.0: "invalid credentials", whatever the password. */

static void
ngx_payment_producer_conf_check_login(rd_kafka_conf_t *rkc, ngx_log_t *log)
{
    char    value[64];
    size_t  len;

    len = sizeof(value);

    if (rd_kafka_version() >= NGX_PAYMENT_SCRAM_VERSION
        || rd_kafka_conf_get(rkc, "sasl.mechanisms", value, &len)
           != RD_KAFKA_CONF_OK
        || ngx_strncasecmp((u_char *) value, (u_char *) "SCRAM-", 6) != 0)
    {
        return;
    }

    ngx_log_error(NGX_LOG_WARN, log, 0,
                  "\"sasl.mechanisms\" of %s: Kafka 4 refuses any password "
                  "from librdkafka %s, 2.6.1 is the first that it takes one "
                  "from; \"PLAIN\" over TLS needs no newer one",
                  value, rd_kafka_version_str());
}


/*
 * An event is handed out only while the lease has more time left than an event
 * may take.  If that were more than half of the lease, no time would be left
 * to hand out anything between two extensions.
 */

static ngx_int_t
ngx_payment_producer_conf_check_timeout(rd_kafka_conf_t *rkc,
    ngx_payment_outbox_conf_t *conf, u_char *text, size_t size)
{
    ngx_int_t   n;
    size_t      len;
    char        value[32];

    len = sizeof(value);

    if (rd_kafka_conf_get(rkc, "message.timeout.ms", value, &len)
        != RD_KAFKA_CONF_OK)
    {
        return NGX_OK;
    }

    n = ngx_atoi((u_char *) value, ngx_strlen(value));

    if (n > 0 && (ngx_msec_t) n <= conf->lock_at_most_for / 2) {
        return NGX_OK;
    }

    (void) ngx_snprintf(text, size,
                        "\"message.timeout.ms\" of %s is not between 1 and a "
                        "half of payment_outbox_lock_at_most_for, %M ms%Z",
                        value, conf->lock_at_most_for / 2);

    return NGX_ERROR;
}


static ngx_int_t
ngx_payment_producer_conf_check_topic(ngx_payment_outbox_conf_t *conf,
    u_char *text, size_t size)
{
    u_char     name[NGX_PAYMENT_PRODUCER_TOPIC_LEN + 1];
    size_t     i, len;
    ngx_str_t  type;

    ngx_str_set(&type, "a-type-of-event-of-32-characters");

    len = ngx_payment_producer_conf_topic(conf, &type, name);

    for (i = 0; i < len; i++) {
        if (!((name[i] >= 'a' && name[i] <= 'z')
              || (name[i] >= 'A' && name[i] <= 'Z')
              || (name[i] >= '0' && name[i] <= '9')
              || name[i] == '.' || name[i] == '_' || name[i] == '-'))
        {
            len = 0;
        }
    }

    if (len) {
        return NGX_OK;
    }

    (void) ngx_snprintf(text, size,
                        "\"payment_kafka_topic %V\" gives no name of a topic: "
                        "up to %d of a-z, A-Z, 0-9, \".\", \"_\", \"-\", and "
                        "\"$event\"%Z", &conf->topic,
                        NGX_PAYMENT_PRODUCER_TOPIC_LEN);

    return NGX_ERROR;
}


static void
ngx_payment_producer_conf_ask(ngx_payment_outbox_conf_t *conf, u_char *text,
    size_t size, ngx_log_t *log)
{
    int            fds[2];
    pid_t          pid;
    size_t         len;
    ssize_t        n;
    uint64_t       now, end;
    struct pollfd  pfd;

    if (pipe(fds) == -1) {
        ngx_log_error(NGX_LOG_WARN, log, ngx_errno,
                      "pipe() failed, payment_kafka_* not checked");
        return;
    }

    pid = fork();

    if (pid == -1) {
        ngx_log_error(NGX_LOG_WARN, log, ngx_errno,
                      "fork() failed, payment_kafka_* not checked");
        (void) close(fds[0]);
        (void) close(fds[1]);
        return;
    }

    if (pid == 0) {
        ngx_payment_producer_conf_ask_child(conf, fds[1]);
        _exit(0);
    }

    (void) close(fds[1]);

    len = 0;
    pfd.fd = fds[0];
    pfd.events = POLLIN;
    end = ngx_payment_clock_ms() + NGX_PAYMENT_CHECK_TIMEOUT;

    for ( ;; ) {
        now = ngx_payment_clock_ms();

        if (now >= end) {
            ngx_log_error(NGX_LOG_WARN, log, 0,
                          "librdkafka did not answer, payment_kafka_* not "
                          "checked");
            (void) kill(pid, SIGKILL);
            len = 0;
            break;
        }

        n = poll(&pfd, 1, (int) (end - now));

        if (n == 0 || (n == -1 && ngx_errno == NGX_EINTR)) {
            continue;
        }

        n = (n == 1) ? read(fds[0], text + len, size - 1 - len) : -1;

        if (n <= 0 || len + n == size - 1) {
            len += ngx_max(n, 0);
            break;
        }

        len += n;
    }

    text[len] = '\0';
    (void) close(fds[0]);

    while (waitpid(pid, NULL, 0) == -1 && ngx_errno == NGX_EINTR) { /* void */ }
}


static void
ngx_payment_producer_conf_ask_child(ngx_payment_outbox_conf_t *conf,
    ngx_fd_t fd)
{
    char              errstr[512];
    size_t            len;
    u_char            text[NGX_PAYMENT_CHECK_TEXT];
    sigset_t          set;
    rd_kafka_t       *rk;
    rd_kafka_conf_t  *rkc;

    (void) sigfillset(&set);
    (void) sigprocmask(SIG_SETMASK, &set, NULL);

    errstr[0] = '\0';
    rkc = ngx_payment_producer_conf_create(conf, text, sizeof(text));

    if (rkc == NULL) {
        return;
    }

    rd_kafka_conf_set_log_cb(rkc, NULL);
    (void) rd_kafka_conf_set(rkc, "log.queue", "false", NULL, 0);

    rk = rd_kafka_new(RD_KAFKA_PRODUCER, rkc, errstr, sizeof(errstr));

    if (rk == NULL) {
        len = ngx_strlen(errstr);

        /* A text shorter than PIPE_BUF is written as a whole, or the parent is
         * gone. */

        if (write(fd, errstr, len) != (ssize_t) len) {
            _exit(1);
        }
    }
}
