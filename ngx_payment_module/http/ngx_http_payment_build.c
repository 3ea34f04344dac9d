/*
 * The file that the running code came from: see ngx_http_payment_build.h.  It
 * is the shared object, or nginx itself where the module is compiled in.
 */

#include "ngx_http_payment_build.h"

#include <dlfcn.h>

#include "ngx_payment_version.h"


/* the file as it was when the code was loaded; zero before the first start */
static ngx_file_info_t  ngx_http_payment_build_loaded;


ngx_int_t
ngx_http_payment_build_init_module(ngx_cycle_t *cycle)
{
    Dl_info           code;
    ngx_file_info_t   now, *loaded;

    loaded = &ngx_http_payment_build_loaded;

    if (dladdr(loaded, &code) == 0
        || ngx_file_info(code.dli_fname, &now) == NGX_FILE_ERROR)
    {
        return NGX_OK;
    }

    if (loaded->st_ino == 0) {
        *loaded = now;

        ngx_log_error(NGX_LOG_NOTICE, cycle->log, 0,
                      "payment: version " NGX_PAYMENT_VERSION ", built for "
                      NGINX_VER ", from %s", code.dli_fname);
        return NGX_OK;
    }

    if (now.st_ino != loaded->st_ino || now.st_dev != loaded->st_dev
        || ngx_file_mtime(&now) != ngx_file_mtime(loaded))
    {
        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "payment: version " NGX_PAYMENT_VERSION " runs on, "
                      "though %s was replaced: a reload does not load it; to "
                      "start it, send USR2 to this master", code.dli_fname);
    }

    return NGX_OK;
}
