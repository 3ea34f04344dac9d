/*
 * payment_openapi, payment_asyncapi and payment_event_schema: the descriptions
 * of the API and of the events, as they were compiled in.  Read-only data of
 * the module; nothing is copied.
 */

#include "ngx_http_payment_answer.h"
#include "ngx_http_payment_module.h"
#include "ngx_http_payment_request.h"


/* made from openapi.json, asyncapi.json and event-schema.json */
extern const unsigned char  ngx_http_payment_openapi_json[];
extern const size_t         ngx_http_payment_openapi_json_len;
extern const unsigned char  ngx_http_payment_asyncapi_json[];
extern const size_t         ngx_http_payment_asyncapi_json_len;
extern const unsigned char  ngx_http_payment_event_schema_json[];
extern const size_t         ngx_http_payment_event_schema_json_len;


static ngx_int_t ngx_http_payment_openapi_send(ngx_http_request_t *r,
    ngx_str_t *type, const unsigned char *document, size_t len);


static ngx_str_t  ngx_http_payment_type_openapi =
    ngx_string("application/openapi+json");

static ngx_str_t  ngx_http_payment_type_asyncapi =
    ngx_string("application/vnd.aai.asyncapi+json;version=3.0.0");

static ngx_str_t  ngx_http_payment_type_schema =
    ngx_string("application/schema+json");


ngx_int_t
ngx_http_payment_openapi_handler(ngx_http_request_t *r)
{
    return ngx_http_payment_openapi_send(r, &ngx_http_payment_type_openapi,
                                         ngx_http_payment_openapi_json,
                                         ngx_http_payment_openapi_json_len);
}


ngx_int_t
ngx_http_payment_openapi_asyncapi_handler(ngx_http_request_t *r)
{
    return ngx_http_payment_openapi_send(r, &ngx_http_payment_type_asyncapi,
                                         ngx_http_payment_asyncapi_json,
                                         ngx_http_payment_asyncapi_json_len);
}


ngx_int_t
ngx_http_payment_openapi_schema_handler(ngx_http_request_t *r)
{
    return ngx_http_payment_openapi_send(r, &ngx_http_payment_type_schema,
                                     ngx_http_payment_event_schema_json,
                                     ngx_http_payment_event_schema_json_len);
}


static ngx_int_t
ngx_http_payment_openapi_send(ngx_http_request_t *r, ngx_str_t *type,
    const unsigned char *document, size_t len)
{
    ngx_int_t  rc;

    if (ngx_http_payment_request_get(r, &rc) != NGX_OK) {
        return rc;
    }

    return ngx_http_payment_answer_bytes(r, NGX_HTTP_OK, type, document, len);
}
