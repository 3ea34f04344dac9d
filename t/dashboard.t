# payment_dashboard: the page, what it is told by the configuration, and what a
# browser is told about it. What the page then shows is in t/browser.

use lib 't/lib';
use PaymentTest;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== a page, with the paths that it asks
--- config
    location = /dashboard { payment_dashboard; }
    location = /steering {
        payment_dashboard status=/v1/status.json admin=/v1/out-box;
    }
--- request eval
["GET /dashboard", "GET /steering"]
--- response_body_like eval
['\A<!doctype html>\n<html lang="en" data-status="/status" data-admin="">\n'
 . '<head>(.|\n)+</script>\n</body>\n</html>\n\z',
 '\A<!doctype html>\n<html lang="en" data-status="/v1/status.json" '
 . 'data-admin="/v1/out-box">\n<head>']
--- response_headers_like eval
[q{Content-Type: text/html; charset=utf-8
Cache-Control: no-store
Content-Security-Policy: default-src 'none'; connect-src 'self'; .*frame-ancestors 'none'; style-src 'sha256-.{44}'; script-src 'sha256-.{44}'
X-Content-Type-Options: nosniff
Referrer-Policy: no-referrer}, 'Cache-Control: no-store']



=== HEAD has the headers alone, and nothing else is allowed
--- config
    location = /dashboard { payment_dashboard; }
--- request eval
["HEAD /dashboard", "POST /dashboard\n{}"]
--- error_code eval
[200, 405]
--- response_headers_like eval
["Content-Type: text/html; charset=utf-8", "Allow: GET, HEAD"]
