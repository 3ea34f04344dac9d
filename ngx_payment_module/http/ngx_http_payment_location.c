/* The module's locations: see ngx_http_payment_location.h. */

#include "ngx_http_payment_location.h"


static char *ngx_http_payment_location_set(ngx_conf_t *cf,
    ngx_http_payment_loc_conf_t *plcf, ngx_http_handler_pt handler);


char *
ngx_http_payment_location_api(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_payment_loc_conf_t *plcf = conf;

    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_payment_main_conf_t  *pmcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* an exact, named or regular location has no prefix to go by */

    if (!clcf->exact_match && !clcf->named
#if (NGX_PCRE)
        && clcf->regex == NULL
#endif
       )
    {
        plcf->prefix = clcf->name;
    }

    pmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_payment_module);
    pmcf->api = 1;

    return ngx_http_payment_location_handler(cf, cmd, conf);
}


char *
ngx_http_payment_location_handler(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_payment_loc_conf_t *plcf = conf;

    ngx_str_t            *value;
    ngx_http_handler_pt   handler;

    value = cf->args->elts;
    handler = (ngx_http_handler_pt) cmd->post;

    if (cf->args->nelts == 2) {
        if (ngx_strcmp(value[1].data, "prometheus") == 0) {
            handler = ngx_http_payment_prometheus_handler;

        } else if (ngx_strcmp(value[1].data, "breaker") == 0) {
            handler = ngx_http_payment_health_breaker_handler;

        } else if (ngx_strcmp(value[1].data, "json") != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid value \"%V\" in \"%V\" directive, "
                               "it must be \"json\", \"prometheus\" or "
                               "\"breaker\"",
                               &value[1], &cmd->name);
            return NGX_CONF_ERROR;
        }
    }

    return ngx_http_payment_location_set(cf, plcf, handler);
}


static char *
ngx_http_payment_location_set(ngx_conf_t *cf,
    ngx_http_payment_loc_conf_t *plcf, ngx_http_handler_pt handler)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler) {
        return "is duplicate, or the location has another handler";
    }

    clcf->handler = handler;
    plcf->handler = handler;

    return NGX_CONF_OK;
}


char *
ngx_http_payment_location_health(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_payment_loc_conf_t *plcf = conf;

    ngx_str_t   *value;
    ngx_uint_t   live;

    value = cf->args->elts;
    live = (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "live") == 0);

    if (cf->args->nelts > 1 && !live
        && ngx_strcmp(value[1].data, "ready") != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"%V\" directive, it "
                           "must be \"live\", \"ready\", \"ready any\" or "
                           "\"ready all\"", &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (cf->args->nelts > 2) {
        plcf->all_shards = (ngx_strcmp(value[2].data, "all") == 0);

        if (!plcf->all_shards && ngx_strcmp(value[2].data, "any") != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid value \"%V\" in \"%V\" directive, "
                               "it must be \"any\" or \"all\"",
                               &value[2], &cmd->name);
            return NGX_CONF_ERROR;
        }
    }

    return ngx_http_payment_location_set(cf, plcf,
                                live ? ngx_http_payment_health_live_handler
                                     : ngx_http_payment_health_ready_handler);
}


char *
ngx_http_payment_location_dashboard(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_payment_loc_conf_t *plcf = conf;

    ngx_str_t   *value, path, status, admin;
    ngx_uint_t   i;

    value = cf->args->elts;

    ngx_str_set(&status, "/status");
    ngx_str_null(&admin);

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "status=", 7) == 0) {
            path.data = value[i].data + 7;
            path.len = value[i].len - 7;
            status = path;

        } else if (ngx_strncmp(value[i].data, "admin=", 6) == 0) {
            path.data = value[i].data + 6;
            path.len = value[i].len - 6;
            admin = path;

        } else {
            ngx_str_null(&path);
        }

        if (!ngx_http_payment_dashboard_is_path(&path)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid value \"%V\" in \"%V\" directive, it "
                               "must be \"status=\" or \"admin=\" and the path "
                               "of a location, which begins with \"/\" and has "
                               "no character that needs quoting",
                               &value[i], &cmd->name);
            return NGX_CONF_ERROR;
        }
    }

    if (ngx_http_payment_dashboard_head(cf->pool, &plcf->dashboard_head,
                                        &status, &admin)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return ngx_http_payment_location_set(cf, plcf,
                                         ngx_http_payment_dashboard_handler);
}


char *
ngx_http_payment_location_problem(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_payment_loc_conf_t *plcf = conf;

    ngx_str_t              *value;
    payment_outcome_e       outcome;
    const payment_error_t  *error;

    value = cf->args->elts;

    for (outcome = PAYMENT_INVALID; /* void */ ; outcome++) {

        if (outcome > PAYMENT_OUTCOME_UNKNOWN) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid value \"%V\" in \"%V\" directive, it "
                               "must be a code of the API's problems, such as "
                               "RATE_LIMIT_EXCEEDED", &value[1], &cmd->name);
            return NGX_CONF_ERROR;
        }

        error = payment_name_error(outcome);

        if (ngx_strcmp(value[1].data, error->code) == 0) {
            break;
        }
    }

    plcf->problem = outcome;

    if (cf->args->nelts > 2) {
        plcf->problem_detail = value[2];

    } else {
        plcf->problem_detail.data = (u_char *) error->title;
        plcf->problem_detail.len = ngx_strlen(error->title);
    }

    return ngx_http_payment_location_set(cf, plcf,
                                         ngx_http_payment_api_problem_handler);
}
