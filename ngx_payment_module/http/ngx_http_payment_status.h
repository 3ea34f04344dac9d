/* Parts of payment_status that payment_outbox_admin shows too. */

#ifndef NGX_HTTP_PAYMENT_STATUS_H
#define NGX_HTTP_PAYMENT_STATUS_H

#include "ngx_http_payment_module.h"
#include "ngx_http_payment_text.h"


/* Each writes one member of a JSON object, "outbox" or "breaker". */

void ngx_http_payment_status_outbox(ngx_http_payment_text_t *t,
    const ngx_http_payment_main_conf_t *pmcf);
void ngx_http_payment_status_breaker(ngx_http_payment_text_t *t,
    const ngx_http_payment_main_conf_t *pmcf);

#endif /* NGX_HTTP_PAYMENT_STATUS_H */
