/*
 * payment_openapi: the API's description, as it was compiled in.  Read-only
 * data of the module; nothing is copied.
 */

#include "ngx_http_payment_answer.h"
#include "ngx_http_payment_module.h"
#include "ngx_http_payment_request.h"


/* ngx_http_payment_openapi_json.c, made from openapi.json */
extern const unsigned char  ngx_http_payment_openapi_json[];
extern const size_t         ngx_http_payment_openapi_json_len;


static ngx_str_t  ngx_http_payment_type_openapi =
    ngx_string("application/openapi+json");


ngx_int_t
ngx_http_payment_openapi_handler(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    if (ngx_http_payment_request_get(r, &rc) != NGX_OK) {
        return rc;
    }

    return ngx_http_payment_answer_bytes(r, NGX_HTTP_OK,
                                         &ngx_http_payment_type_openapi,
                                         ngx_http_payment_openapi_json,
                                         ngx_http_payment_openapi_json_len);
}
