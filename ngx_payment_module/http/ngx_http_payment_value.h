/*
 * Values of directives that nginx has no slot for, and what is asked of others
 * beside their form.  A value that is refused is named, with its directive,
 * and so is what would be one.
 */

#ifndef NGX_HTTP_PAYMENT_VALUE_H
#define NGX_HTTP_PAYMENT_VALUE_H

#include <ngx_config.h>
#include <ngx_core.h>


/* A time in seconds, at most ten years; or NGX_ERROR. */
ngx_int_t ngx_http_payment_value_seconds(ngx_str_t *value);


/* Of ngx_command_t.  Without an offset: payment_authorization_lifetime and
 * payment_currencies, in their places of the location's configuration. */

char *ngx_http_payment_value_lifetime(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_payment_value_currencies(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* An int64_t, and a percentage with two decimals, in hundredths. */
char *ngx_http_payment_value_amount(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_payment_value_percent(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* One of two words: the two of the ngx_conf_enum_t in post. */
char *ngx_http_payment_value_enum(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* An ngx_str_t: Kafka's list of brokers, as it was written. */
char *ngx_http_payment_value_brokers(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* One more of an array of ngx_payment_kafka_property_t, and one whose value is
 * in a file. */
char *ngx_http_payment_value_property(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_payment_value_property_file(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);


/* Of ngx_conf_post_t, in the post of nginx's own slots. */

/* numbers: ngx_conf_num_bounds_t */
char *ngx_http_payment_value_check_bounds(ngx_conf_t *cf, void *post,
    void *data);

/* times: more than 0 */
char *ngx_http_payment_value_check_positive(ngx_conf_t *cf, void *post,
    void *data);

/* sizes: a body of an authorization is no shorter */
char *ngx_http_payment_value_check_body(ngx_conf_t *cf, void *post,
    void *data);

/* texts: "off" or a challenge, which are changed to "" or left; the beginning
 * of a URI, an absolute URI, and the prefix of an event's type */
char *ngx_http_payment_value_check_challenge(ngx_conf_t *cf, void *post,
    void *data);
char *ngx_http_payment_value_check_base(ngx_conf_t *cf, void *post,
    void *data);
char *ngx_http_payment_value_check_uri(ngx_conf_t *cf, void *post,
    void *data);
char *ngx_http_payment_value_check_prefix(ngx_conf_t *cf, void *post,
    void *data);

#endif /* NGX_HTTP_PAYMENT_VALUE_H */
