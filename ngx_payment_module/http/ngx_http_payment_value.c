/* Values of directives; see ngx_http_payment_value.h. */

#include "ngx_http_payment_value.h"
#include "ngx_http_payment_file.h"
#include "ngx_http_payment_module.h"


#define NGX_HTTP_PAYMENT_PROPERTY_LEN  1024     /* bytes, from a file */
#define NGX_HTTP_PAYMENT_LIFETIME_MAX  (10 * 365 * 24 * 3600)   /* seconds */

/* the shortest authorization, {"amount":1,"currency":"KRW"}, has 29 */
#define NGX_HTTP_PAYMENT_BODY_MIN      32       /* bytes */


static void ngx_http_payment_value_check_secret(ngx_conf_t *cf,
    ngx_str_t *name);
static ngx_uint_t ngx_http_payment_value_printable(const ngx_str_t *value,
    const char *not_these);


/* payment_kafka_property: the names whose values are names of files */

static ngx_str_t  ngx_http_payment_value_files[] = {
    ngx_string("ssl.ca.location"),
    ngx_string("ssl.certificate.location"),
    ngx_string("ssl.crl.location"),
    ngx_string("ssl.key.location"),
    ngx_string("ssl.keystore.location"),
    ngx_string("sasl.kerberos.keytab"),
    ngx_null_string
};

/* the names whose values are secrets, and what keeps them out of nginx -T: the
 * one line of a file cannot be a key */

static const struct {
    const char  *name;
    const char  *instead;
}  ngx_http_payment_value_secrets[] = {
    { "sasl.password", NULL },
    { "sasl.oauthbearer.client.secret", NULL },
    { "sasl.oauthbearer.client.credentials.client.secret", NULL },
    { "sasl.oauthbearer.assertion.private.key.passphrase", NULL },
    { "sasl.oauthbearer.assertion.private.key.pem",
      "sasl.oauthbearer.assertion.private.key.file" },
    { "ssl.key.password", NULL },
    { "ssl.key.pem", "ssl.key.location" },
    { "ssl.keystore.password", NULL }
};


char *
ngx_http_payment_value_currencies(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_payment_loc_conf_t *plcf = conf;

    u_char      *p;
    ngx_str_t   *value;
    ngx_uint_t   i;

    if (plcf->currencies.data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    p = ngx_pnalloc(cf->pool, 3 * (cf->args->nelts - 1));
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    plcf->currencies.data = p;

    for (i = 1; i < cf->args->nelts; i++) {
        if (payment_money_exponent((char *) value[i].data, value[i].len) < 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" in \"%V\" directive is no ISO 4217 "
                               "currency code", &value[i], &cmd->name);
            return NGX_CONF_ERROR;
        }

        p = ngx_cpymem(p, value[i].data, 3);
    }

    plcf->currencies.len = p - plcf->currencies.data;

    return NGX_CONF_OK;
}


/* Also where no new authorization gets a lifetime, those that have one end. */

char *
ngx_http_payment_value_lifetime(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_payment_loc_conf_t *plcf = conf;

    char                          *rv;
    ngx_str_t                     *value;
    ngx_http_payment_main_conf_t  *pmcf;

    rv = ngx_http_set_complex_value_slot(cf, cmd, conf);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    value = cf->args->elts;
    plcf->lifetime_seconds = 0;

    if (plcf->lifetime->lengths == NULL) {
        plcf->lifetime_seconds = ngx_http_payment_value_seconds(&value[1]);

        if (plcf->lifetime_seconds == NGX_ERROR) {
            return "must be a time, of ten years at most";
        }
    }

    pmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_payment_module);
    pmcf->expiry = 1;

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_payment_value_seconds(ngx_str_t *value)
{
    ngx_int_t  seconds;

    seconds = ngx_parse_time(value, 1);

    return (seconds == NGX_ERROR || seconds > NGX_HTTP_PAYMENT_LIFETIME_MAX)
           ? NGX_ERROR : seconds;
}


/* An amount has 64 bits everywhere; nginx's number has 32 on some machines. */

char *
ngx_http_payment_value_amount(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    int64_t    *amount;
    ngx_str_t  *value;

    amount = (int64_t *) (p + cmd->offset);

    if (*amount != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    value = cf->args->elts;

    *amount = ngx_atoof(value[1].data, value[1].len);
    if (*amount == NGX_ERROR) {
        return "invalid number";
    }

    return *amount ? NGX_CONF_OK : "must be more than 0";
}


char *
ngx_http_payment_value_percent(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_int_t  *field, n;
    ngx_str_t  *value;

    field = (ngx_int_t *) (p + cmd->offset);

    if (*field != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    value = cf->args->elts;
    n = ngx_atofp(value[1].data, value[1].len, 2);

    if (n == NGX_ERROR || n < 1 || n > 10000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid percentage \"%V\" in \"%V\" directive, it "
                           "must be more than 0 and at most 100",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    *field = n;

    return NGX_CONF_OK;
}


char *
ngx_http_payment_value_property(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t                     *value, *file;
    ngx_array_t                   *properties;
    ngx_payment_kafka_property_t  *property;

    properties = (ngx_array_t *) (p + cmd->offset);

    property = ngx_array_push(properties);
    if (property == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;             /* the parser terminates its words */
    property->name = value[1];
    property->value = value[2];

    ngx_http_payment_value_check_secret(cf, &property->name);

    /* the helper opens these when it makes a producer */

    for (file = ngx_http_payment_value_files; file->len; file++) {
        if (property->name.len == file->len
            && ngx_strcmp(property->name.data, file->data) == 0
            && ngx_strcmp(property->value.data, "probe") != 0
            && ngx_http_payment_file_readable(cf, &property->value,
                                              (char *) file->data)
               != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static void
ngx_http_payment_value_check_secret(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_uint_t   i;
    const char  *instead;

    for (i = 0;
         i < sizeof(ngx_http_payment_value_secrets)
             / sizeof(ngx_http_payment_value_secrets[0]);
         i++)
    {
        if (ngx_strcmp(name->data, ngx_http_payment_value_secrets[i].name)
            != 0)
        {
            continue;
        }

        instead = ngx_http_payment_value_secrets[i].instead;

        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"%V\" in \"payment_kafka_property\" is a secret "
                           "that nginx -T shows, use \"%s\" for it",
                           name, instead ? instead
                                         : "payment_kafka_property_file");
    }
}


/* The value is a secret: neither in nginx -T, nor readable for the workers. */

char *
ngx_http_payment_value_property_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    char  *p = conf;

    ngx_str_t                     *value, name;
    ngx_array_t                   *properties;
    ngx_payment_kafka_property_t  *property;

    properties = (ngx_array_t *) (p + cmd->offset);

    property = ngx_array_push(properties);
    if (property == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;
    name = value[2];
    property->name = value[1];

    if (ngx_conf_full_name(cf->cycle, &name, 1) != NGX_OK
        || ngx_http_payment_file_secret(cf, &name, &property->value,
                                        NGX_HTTP_PAYMENT_PROPERTY_LEN)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* Does what ngx_conf_set_enum_slot() does, and names the directive. */

char *
ngx_http_payment_value_enum(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t        *value;
    ngx_uint_t       *field, i;
    ngx_conf_enum_t  *e;

    field = (ngx_uint_t *) (p + cmd->offset);

    if (*field != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;
    e = cmd->post;

    for (i = 0; e[i].name.len; i++) {
        if (e[i].name.len == value[1].len
            && ngx_strcmp(e[i].name.data, value[1].data) == 0)
        {
            *field = e[i].value;
            return NGX_CONF_OK;
        }
    }

    /* the message has room for two: each of these directives has as many */

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid value \"%V\" in \"%V\" directive, it must be "
                       "\"%V\" or \"%V\"",
                       &value[1], &cmd->name, &e[0].name, &e[1].name);

    return NGX_CONF_ERROR;
}


/* A list of host:port.  Ports are checked; names are left to Kafka's client. */

char *
ngx_http_payment_value_brokers(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    u_char     *p, *last, *end, *colon;
    ngx_int_t   port;
    ngx_str_t  *value, broker;

    value = cf->args->elts;
    p = value[1].data;
    last = p + value[1].len;

    for ( ;; ) {
        end = ngx_strlchr(p, last, ',');
        if (end == NULL) {
            end = last;
        }

        broker.data = p;
        broker.len = end - p;

        for (colon = end; colon > p && colon[-1] != ':' && colon[-1] != ']';
             colon--)
        {
            /* void */
        }

        port = 9092;

        if (colon > p && colon[-1] == ':') {
            port = ngx_atoi(colon, end - colon);
        }

        if (broker.len == 0 || (colon > p && colon - 1 == p)
            || port < 1 || port > 65535)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid broker \"%V\" in \"%V\" directive, it "
                               "must be host:port", &broker, &cmd->name);
            return NGX_CONF_ERROR;
        }

        if (end == last) {
            break;
        }

        p = end + 1;
    }

    return ngx_conf_set_str_slot(cf, cmd, conf);
}


/* Does what ngx_conf_check_num_bounds() does, and names the directive. */

char *
ngx_http_payment_value_check_bounds(ngx_conf_t *cf, void *post, void *data)
{
    ngx_conf_num_bounds_t *bounds = post;
    ngx_int_t             *number = data;

    ngx_str_t  *value;

    if (*number >= bounds->low && *number <= bounds->high) {
        return NGX_CONF_OK;
    }

    value = cf->args->elts;

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"%V\" must be between %i and %i",
                       &value[0], bounds->low, bounds->high);

    return NGX_CONF_ERROR;
}


char *
ngx_http_payment_value_check_positive(ngx_conf_t *cf, void *post, void *data)
{
    ngx_msec_t *value = data;

    return *value ? NGX_CONF_OK : "must be more than 0";
}


char *
ngx_http_payment_value_check_body(ngx_conf_t *cf, void *post, void *data)
{
    size_t *size = data;

    return *size >= NGX_HTTP_PAYMENT_BODY_MIN
           ? NGX_CONF_OK : "must be 32 at least, for an authorization";
}


/* "off", or what WWW-Authenticate says */

char *
ngx_http_payment_value_check_challenge(ngx_conf_t *cf, void *post, void *data)
{
    ngx_str_t *value = data;

    if (ngx_strcmp(value->data, "off") == 0) {
        value->data += value->len;
        value->len = 0;
        return NGX_CONF_OK;
    }

    if (value->len == 0 || !ngx_http_payment_value_printable(value, "")) {
        return "must be \"off\" or a challenge in printable ASCII, such as "
               "'Bearer realm=\"payments\"'";
    }

    return NGX_CONF_OK;
}


char *
ngx_http_payment_value_check_base(ngx_conf_t *cf, void *post, void *data)
{
    ngx_str_t *value = data;

    if (value->len > PAYMENT_PROBLEM_BASE_LEN
        || ngx_strlchr(value->data, value->data + value->len, ':') == NULL
        || !ngx_http_payment_value_printable(value, " \"\\"))
    {
        return "must be the beginning of a URI with its scheme, of at most "
               "256 characters";
    }

    return NGX_CONF_OK;
}


/* A scheme, a colon, and something: that is an absolute URI. */

char *
ngx_http_payment_value_check_uri(ngx_conf_t *cf, void *post, void *data)
{
    ngx_str_t *value = data;

    u_char  *p, *last;

    last = value->data + value->len;

    for (p = value->data; p < last && *p != ':'; p++) {
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z')
              || (p > value->data
                  && ((*p >= '0' && *p <= '9') || ngx_strchr("+-.", *p)))))
        {
            p = last;
            break;
        }
    }

    if (p == value->data || last - p < 2
        || value->len > NGX_PAYMENT_EVENT_URI_LEN
        || !ngx_http_payment_value_printable(value, " \"<>\\^`{|}"))
    {
        return "must be an absolute URI of at most 256 characters, such as "
               "https://payments.example.net/";
    }

    return NGX_CONF_OK;
}


/* So that the type of an event is its last word, whatever is before it. */

char *
ngx_http_payment_value_check_prefix(ngx_conf_t *cf, void *post, void *data)
{
    ngx_str_t *value = data;

    if (value->len < 2 || value->len > NGX_PAYMENT_EVENT_PREFIX_LEN
        || value->data[value->len - 1] != '.'
        || !ngx_http_payment_value_printable(value, " "))
    {
        return "must end with a dot and have at most 128 characters, such as "
               "\"com.example.payment.\"";
    }

    return NGX_CONF_OK;
}


static ngx_uint_t
ngx_http_payment_value_printable(const ngx_str_t *value, const char *not_these)
{
    size_t  i;

    for (i = 0; i < value->len; i++) {
        if (value->data[i] < ' ' || value->data[i] > '~'
            || ngx_strchr(not_these, value->data[i]))
        {
            return 0;
        }
    }

    return 1;
}
