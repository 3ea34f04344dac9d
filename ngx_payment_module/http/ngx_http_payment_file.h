/*
 * Files that the configuration names: secrets that are read while it is read,
 * and keys and certificates that the workers and the helper open later.
 *
 * What the later ones would fail on is looked for now, as the user that they
 * run as: the master is root, and may read what they may not.  All of these
 * return NGX_ERROR after they have logged what is wrong, with the file's name
 * and never with a word of what is in it.
 */

#ifndef NGX_HTTP_PAYMENT_FILE_H
#define NGX_HTTP_PAYMENT_FILE_H

#include <ngx_config.h>
#include <ngx_core.h>


/* One line, without its end, of 1 to max bytes; terminated. */
ngx_int_t ngx_http_payment_file_secret(ngx_conf_t *cf, const ngx_str_t *name,
    ngx_str_t *secret, size_t max);

/* Can the workers' user open the file?  directive is who names it. */
ngx_int_t ngx_http_payment_file_readable(ngx_conf_t *cf, const ngx_str_t *name,
    const char *directive);

/* Is there a certificate in the file? */
ngx_int_t ngx_http_payment_file_certificates(ngx_conf_t *cf,
    const ngx_str_t *name, const char *directive);

/* Is this the certificate's private key, and not encrypted? */
ngx_int_t ngx_http_payment_file_key(ngx_conf_t *cf,
    const ngx_str_t *certificate, const ngx_str_t *key);

#endif /* NGX_HTTP_PAYMENT_FILE_H */
