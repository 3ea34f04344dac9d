# payment_merchant: who the merchant is comes from a variable. The body may
# repeat it, and may not contradict it.

use lib 't/lib';
use PaymentTest;
use Test::Nginx::Socket 'no_plan';

our $config = <<'END';
    location /api/payments {
        payment_merchant $http_x_merchant;
        payment_api;
    }
    location /open/payments {
        payment_api;
    }
END

our $json = 'Content-Type: application/json';

run_tests();

__DATA__

=== the body agrees
--- config eval: $main::config
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":10,"currency":"KRW","idempotencyKey":"m1"}
--- more_headers
Content-Type: application/json
X-Merchant: M1
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
P1 AUTHORIZED 10 KRW, captured 0, refunded 0
row: M1 AUTHORIZED 10 KRW, captured 0, refunded 0, version 1
events: authorized



=== the body does not say
--- config eval: $main::config
--- request
POST /api/payments/authorize
{"amount":10,"currency":"KRW","idempotencyKey":"m2"}
--- more_headers
Content-Type: application/json
X-Merchant: M2
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
P1 AUTHORIZED 10 KRW, captured 0, refunded 0
row: M2 AUTHORIZED 10 KRW, captured 0, refunded 0, version 1
events: authorized



=== the body names another merchant
--- config eval: $main::config
--- request
POST /api/payments/authorize
{"merchantId":"M2","amount":10,"currency":"KRW","idempotencyKey":"m3"}
--- more_headers
Content-Type: application/json
X-Merchant: M1
--- error_code: 403
--- response_body_filters eval
\&PaymentTest::told
--- response_body
403 MERCHANT_MISMATCH merchantId



=== nobody
--- config eval: $main::config
--- request eval
[qq[POST /api/payments/authorize
{"merchantId":"M1","amount":10,"currency":"KRW","idempotencyKey":"m4"}],
 "GET /api/payments/01890000-0000-7000-8000-000000000000?merchantId=M1"]
--- error_code eval
[401, 401]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["401 UNAUTHORIZED\n", "401 UNAUTHORIZED\n"]



=== who is nobody hears how to be somebody
--- config
    payment_merchant $http_x_merchant;
    location /api/payments { payment_api; }
    location /keys { payment_challenge 'Key realm="shops", charset="UTF-8"'; payment_api; }
    location /certificates { payment_challenge off; payment_api; }
--- request eval
[map { "GET $_/01890000-0000-7000-8000-000000000000?merchantId=M1" } '/api/payments', '/keys', '/certificates']
--- error_code eval
[401, 401, 403]
--- response_headers eval
['WWW-Authenticate: Bearer realm="payments"',
 'WWW-Authenticate: Key realm="shops", charset="UTF-8"',
 '! WWW-Authenticate']
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["401 UNAUTHORIZED\n", "401 UNAUTHORIZED\n", "403 FORBIDDEN\n"]



=== who is another hears no challenge
--- config eval: $main::config
--- request
GET /api/payments/01890000-0000-7000-8000-000000000000?merchantId=M1
--- more_headers
X-Merchant: M2
--- error_code: 403
--- response_headers
! WWW-Authenticate
--- response_body_filters eval
\&PaymentTest::told
--- response_body
403 MERCHANT_MISMATCH merchantId



=== an installation's types of problems
--- config
    payment_problem_base https://payments.example/problems#;
    location /api/payments { payment_api; }
    location /own { payment_problem_base urn:shop:; payment_api; }
--- request eval
["GET /api/payments/x", "GET /own/x"]
--- error_code eval
[404, 404]
--- response_body_like eval
[qr/"type":"https:\/\/payments\.example\/problems#NOT_FOUND","title":"Not Found"/,
 qr/"type":"urn:shop:NOT_FOUND","title":"Not Found"/]



=== what nginx refuses is counted and logged as the API's own
--- http_config
    limit_req_zone $http_x_merchant zone=counted:1m rate=1r/m;
    limit_req_status 429;
    log_format payment '[$payment_operation $payment_error $payment_status] $status';
--- config
    location /api/payments {
        limit_req zone=counted;
        error_page 429 @limited;
        payment_api;
        access_log logs/access.log payment;
    }
    location @limited {
        payment_problem RATE_LIMIT_EXCEEDED;
        access_log logs/access.log payment;
    }
    location = /status { payment_status; }
--- init
PaymentTest::http('GET', '/api/payments/x', '', 'X-Merchant: M1') for 1 .. 3;
PaymentTest::http('POST', '/api/payments/authorize', '{}', 'X-Merchant: M1');
--- request
GET /status
--- response_body_like eval
qr/"authorize":\{"OK":0,"RATE_LIMIT_EXCEEDED":1,"total":1\}.*"get":\{"OK":0,"NOT_FOUND":1,"RATE_LIMIT_EXCEEDED":2,"total":3\}/s
--- access_log eval
[qr/^\[get NOT_FOUND -\] 404$/, qr/^\[get RATE_LIMIT_EXCEEDED -\] 429$/,
 qr/^\[get RATE_LIMIT_EXCEEDED -\] 429$/, qr/^\[authorize RATE_LIMIT_EXCEEDED -\] 429$/]



=== an answer of the API's own that becomes a problem is counted once
--- config
    error_page 400 =422 @other;
    location /api/payments { payment_intercept_errors on; payment_api; }
    location @other { payment_problem INVALID_REQUEST "of another kind"; }
    location = /status { payment_status; }
--- request eval
["POST /api/payments/authorize\n{}", "GET /status"]
--- error_code eval
[400, 200]
--- response_body_like eval
[qr/"status":400,"detail":"of another kind","code":"INVALID_REQUEST"/,
 qr/"authorize":\{"OK":0,"INVALID_REQUEST":1,"total":1\}/]



=== a name that cannot be a merchant's
--- config eval: $main::config
--- request
POST /api/payments/authorize
{"amount":10,"currency":"KRW","idempotencyKey":"m5"}
--- more_headers eval
"$main::json\nX-Merchant: " . 'm' x 33
--- error_code: 401
--- response_body_filters eval
\&PaymentTest::told
--- response_body
401 UNAUTHORIZED



=== nothing of these was stored
--- config eval: $main::config
--- request eval
[map { qq[POST /api/payments/authorize
{"merchantId":"$_","amount":10,"currency":"KRW","idempotencyKey":"m6"}] } 'N2', 'N3']
--- more_headers eval
["$main::json\nX-Merchant: N1", $main::json]
--- error_code eval
[403, 401]
--- response_body_filters eval
sub { PaymentTest::sql("SELECT COUNT(*) FROM payment WHERE merchant_id LIKE 'N%'") }
--- response_body eval
["0\n", "0\n"]



=== GET knows the merchant
--- config eval: $main::config
--- init
PaymentTest::given_at('/open/payments', A => { merchantId => 'M7' });
--- request eval
["GET /api/payments/{A}", "GET /api/payments/{A}?merchantId=M7",
 "GET /api/payments/{A}?merchantId=M8", "GET /api/payments/{A}"]
--- more_headers eval
["X-Merchant: M7", "X-Merchant: M7", "X-Merchant: M7", "X-Merchant: M8"]
--- error_code eval
[200, 200, 403, 404]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["A AUTHORIZED 1000 KRW, captured 0, refunded 0\n",
 "A AUTHORIZED 1000 KRW, captured 0, refunded 0\n",
 "403 MERCHANT_MISMATCH merchantId\n", "404 NOT_FOUND\n"]



=== operations on a payment, with no body but the key
--- config eval: $main::config
--- init
PaymentTest::given_at('/open/payments', A => { merchantId => 'M7' });
PaymentTest::given_at('/open/payments', B => { merchantId => 'M7' });
--- request eval
["POST /api/payments/capture/{A}", "POST /api/payments/void/{B}\n{}",
 "POST /api/payments/refund/{A}\n{\"reason\":\"r\"}"]
--- more_headers eval
[("X-Merchant: M7\n$main::json") x 3]
--- error_code eval
[200, 200, 200]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["A CAPTURED 1000 KRW, captured 1000, refunded 0\n",
 "B VOIDED 1000 KRW, captured 0, refunded 0\n",
 "A REFUNDED 1000 KRW, captured 1000, refunded 1000\n"]



=== an operation on another's payment
--- config eval: $main::config
--- init
PaymentTest::given_at('/open/payments', A => { merchantId => 'M7' });
--- request eval
["POST /api/payments/capture/{A}\n{}",
 "POST /api/payments/capture/{A}\n{\"merchantId\":\"M7\"}"]
--- more_headers eval
[("X-Merchant: M8\n$main::json") x 2]
--- error_code eval
[404, 403]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["404 NOT_FOUND\n", "403 MERCHANT_MISMATCH merchantId\n"]



=== behind auth_request
--- config
    location /api/payments {
        auth_request /who;
        auth_request_set $merchant $upstream_http_x_who;
        payment_merchant $merchant;
        payment_api;
    }
    location = /who {
        internal;
        proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/who-says;
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
    }
    location = /who-says {
        if ($http_x_api_key != "k1") {
            return 401;
        }
        add_header X-Who M10;
        return 204;
    }
--- request eval
[map { qq[POST /api/payments/authorize
{"amount":10,"currency":"KRW","idempotencyKey":"m10-$_"}] } 1, 2]
--- more_headers eval
["$main::json\nX-Api-Key: k1", "$main::json\nX-Api-Key: k2"]
--- error_code eval
[200, 401]
--- response_headers eval
["Content-Type: application/json", "! Retry-After"]



=== a map of API keys
--- http_config
    map $http_authorization $merchant {
        default     "";
        "Bearer k1" M11;
    }
--- config
    location /api/payments {
        payment_merchant $merchant;
        payment_api;
    }
--- request eval
[map { qq[POST /api/payments/authorize
{"amount":10,"currency":"KRW","idempotencyKey":"m11-$_"}] } 1, 2, 3]
--- more_headers eval
["$main::json\nAuthorization: Bearer k1", "$main::json\nAuthorization: Bearer k2",
 $main::json]
--- error_code eval
[200, 401, 401]



=== a server's setting, and a location's own
--- config
    payment_merchant $http_x_merchant;
    location /inherited {
        payment_api;
    }
    location /own {
        payment_merchant $http_x_other;
        payment_api;
    }
--- request eval
[map { qq[POST /$_/authorize
{"amount":10,"currency":"KRW","idempotencyKey":"m12-$_"}] } 'inherited', 'own']
--- more_headers eval
["$main::json\nX-Merchant: M12", "$main::json\nX-Merchant: M12"]
--- error_code eval
[200, 401]



=== the identity rules over an empty reading of the body
--- config eval: $main::config
--- request
POST /api/payments/authorize
{"merchantId":null,"amount":10,"currency":"KRW","idempotencyKey":"m13"}
--- more_headers
Content-Type: application/json
X-Merchant: M13
--- response_body_filters eval
\&PaymentTest::told
--- response_body
P1 AUTHORIZED 10 KRW, captured 0, refunded 0



=== a rate limit by merchant, in our format
--- http_config
    limit_req_zone $http_x_merchant zone=merchant:1m rate=1r/m;
    limit_req_status 429;
--- config
    location /api/payments {
        limit_req zone=merchant;
        error_page 429 @limited;
        payment_merchant $http_x_merchant;
        payment_api;
    }
    location @limited {
        payment_problem RATE_LIMIT_EXCEEDED "too many requests";
    }
--- request eval
[map { qq[POST /api/payments/authorize
{"amount":10,"currency":"KRW","idempotencyKey":"m14-$_"}] } 1, 2, 3]
--- more_headers eval
["$main::json\nX-Merchant: M14", "$main::json\nX-Merchant: M14",
 "$main::json\nX-Merchant: M15"]
--- error_code eval
[200, 429, 200]
--- response_headers eval
["Content-Type: application/json",
 "Content-Type: application/problem+json\nRetry-After: 1\nCache-Control: no-store",
 "Content-Type: application/json"]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["P1 AUTHORIZED 10 KRW, captured 0, refunded 0\n", "429 RATE_LIMIT_EXCEEDED\n",
 "P2 AUTHORIZED 10 KRW, captured 0, refunded 0\n"]
