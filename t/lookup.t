# GET .../?merchantId=..&idempotencyKey=..: what became of a key, for a client
# that had no answer.

use lib 't/lib';
use PaymentTest;
use Test::Nginx::Socket 'no_plan';

sub authorize {
    my ($key, @more) = @_;

    PaymentTest::given(A => { idempotencyKey => $key }, @more);
}

run_tests();

__DATA__

=== a key that made a payment
--- init
main::authorize('k00-1');
--- request eval
["GET /api/payments/?merchantId=M1&idempotencyKey=k00-1",
 "GET /api/payments?idempotencyKey=k00-1&merchantId=M1"]
--- error_code eval
[200, 200]
--- response_body_filters eval
\&PaymentTest::same
--- response_body eval
["A AUTHORIZED 1000 KRW, captured 0, refunded 0"
 . "; authorize 1: AUTHORIZED, captured 0, refunded 0\n",
 "same\n"]



=== the payment is shown as it is now, and the operation as it was then
--- init
main::authorize('k01-1', capture => { amount => 700, idempotencyKey => 'k01-2' },
                refund => { amount => 100, idempotencyKey => 'k01-3' },
                refund => { amount => 600 });
--- request eval
[map { "GET /api/payments/?merchantId=M1&idempotencyKey=k01-$_" } 1 .. 3]
--- error_code eval
[200, 200, 200]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
my $now = 'A REFUNDED 1000 KRW, captured 700, refunded 700';
["$now; authorize 1: AUTHORIZED, captured 0, refunded 0\n",
 "$now; capture 2: PARTIALLY_CAPTURED, captured 700, refunded 0\n",
 "$now; refund 3: PARTIALLY_REFUNDED, captured 700, refunded 100\n"]



=== the members are those of a GET, and one more
--- init
main::authorize('k02-1');
--- request
GET /api/payments/?merchantId=M1&idempotencyKey=k02-1
--- response_body_like chomp
^\{"paymentId":"[-0-9a-f]{36}","status":"AUTHORIZED","amount":1000,"currency":"KRW","capturedAmount":0,"refundedAmount":0,"createdAt":"[^"]+Z","merchantId":"M1","version":1,"updatedAt":"[^"]+Z","ledgerEntries":\[\],"message":"Payment found","operation":\{"type":"authorize","status":"AUTHORIZED","version":1,"capturedAmount":0,"refundedAmount":0\}\}$



=== a key that nobody has used, and one of a request that was refused
--- init
main::authorize('k03-1');
PaymentTest::http('POST', '/api/payments/refund/' . PaymentTest::id_of('A'),
                  '{"merchantId":"M1","reason":"r","idempotencyKey":"refused"}');
--- request eval
["GET /api/payments/?merchantId=M1&idempotencyKey=k03-2",
 "GET /api/payments/?merchantId=M1&idempotencyKey=refused"]
--- error_code eval
[404, 404]
--- response_body_filters eval
\&PaymentTest::same
--- response_body eval
["404 NOT_FOUND\n", "same\n"]



=== another merchant's key is nobody's
--- init
main::authorize('k04-1');
--- request
GET /api/payments/?merchantId=M2&idempotencyKey=k04-1
--- error_code: 404
--- response_body_filters eval
\&PaymentTest::told
--- response_body
404 NOT_FOUND



=== the key in the header, in quotes or bare, and in both places
--- init
main::authorize('k05-1');
--- request eval
["GET /api/payments/?merchantId=M1", "GET /api/payments/?merchantId=M1",
 "GET /api/payments/?merchantId=M1&idempotencyKey=k05%2D1",
 "GET /api/payments/?merchantId=M1&idempotencyKey=k05-2"]
--- more_headers eval
["Idempotency-Key: k05-1", qq(Idempotency-Key: "k05-1"),
 qq(Idempotency-Key: "k05-1"), qq(Idempotency-Key: "k05-1")]
--- error_code eval
[200, 200, 200, 400]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
my $found = "A AUTHORIZED 1000 KRW, captured 0, refunded 0"
            . "; authorize 1: AUTHORIZED, captured 0, refunded 0\n";
[$found, $found, $found, "400 INVALID_REQUEST idempotencyKey\n"]



=== two headers
--- request
GET /api/payments/?merchantId=M1
--- more_headers
Idempotency-Key: "one"
Idempotency-Key: "two"
--- error_code: 400
--- response_body_filters eval
\&PaymentTest::told
--- response_body
400 INVALID_REQUEST Idempotency-Key



=== keys that are none
--- request eval
[map { "GET /api/payments/?merchantId=M1$_" }
 '', '&idempotencyKey', '&idempotencyKey=', '&idempotencyKey=%20',
 '&idempotencyKey=%00', '&idempotencyKey=%ff', '&idempotencyKey=%4',
 '&idempotencyKey=' . 'k' x 65, '&idempotencykey=k',
 '&idempotencyKey=k&idempotencyKey=k', '&idempotencyKey=k&idempotency%4bey=k']
--- error_code eval
[(400) x 11]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("400 INVALID_REQUEST idempotencyKey\n") x 11]



=== a key of many characters, all of them escaped
--- init
PaymentTest::given(A => { idempotencyKey => "\x{c5f4}" x 64 });
--- request eval
"GET /api/payments/?merchantId=M1&idempotencyKey=" . '%EC%97%B4' x 64
--- response_body_filters eval
\&PaymentTest::told
--- response_body
A AUTHORIZED 1000 KRW, captured 0, refunded 0; authorize 1: AUTHORIZED, captured 0, refunded 0



=== without a merchant, or with two
--- request eval
["GET /api/payments/?idempotencyKey=k",
 "GET /api/payments/?idempotencyKey=k&merchantId=M1&merchantId=M1"]
--- error_code eval
[400, 400]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("400 INVALID_REQUEST merchantId\n") x 2]



=== with payment_merchant, to the merchant that it says
--- config
    location /api/payments { payment_api; }
    location /known {
        payment_api;
        payment_merchant $http_x_merchant;
    }
--- init
main::authorize('k10-1');
--- request eval
["GET /known/?idempotencyKey=k10-1", "GET /known/?idempotencyKey=k10-1",
 "GET /known/?idempotencyKey=k10-1&merchantId=M1",
 "GET /known/?idempotencyKey=k10-1&merchantId=M1",
 "GET /known/?idempotencyKey=&merchantId=M1"]
--- more_headers eval
["X-Merchant: M1", "X-Merchant: M2", "X-Merchant: M1", "X-Merchant: M2",
 "X: y"]
--- error_code eval
[200, 404, 200, 403, 401]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
my $found = "A AUTHORIZED 1000 KRW, captured 0, refunded 0"
            . "; authorize 1: AUTHORIZED, captured 0, refunded 0\n";
[$found, "404 NOT_FOUND\n", $found, "403 MERCHANT_MISMATCH merchantId\n",
 "401 UNAUTHORIZED\n"]



=== HEAD has what GET has, but the body
--- init
main::authorize('k11-1');
--- request eval
["HEAD /api/payments/?merchantId=M1&idempotencyKey=k11-1",
 "HEAD /api/payments/?merchantId=M1&idempotencyKey=k11-2"]
--- error_code eval
[200, 404]
--- response_headers_like eval
["Content-Type: application/json\nContent-Length: [1-9]\\d+",
 "Content-Type: application/problem\\+json\nContent-Length: [1-9]\\d+"]
--- response_body eval
["", ""]



=== another method
--- request eval
["POST /api/payments/?merchantId=M1&idempotencyKey=k12-1\n{}",
 "DELETE /api/payments?merchantId=M1&idempotencyKey=k12-1"]
--- error_code eval
[405, 405]
--- response_headers eval
[("Allow: GET, HEAD\nContent-Type: application/problem+json") x 2]



=== the payment was removed since
--- init
main::authorize('k13-1');
PaymentTest::sql('DELETE FROM payment WHERE id = (SELECT MAX(id) FROM payment)');
--- request
GET /api/payments/?merchantId=M1&idempotencyKey=k13-1
--- error_code: 410
--- response_body_filters eval
\&PaymentTest::told
--- response_body
410 PAYMENT_GONE



=== a location without a prefix: what ends with a slash, and is no verb
--- config
    location /api/payments { payment_api; }
    location ~ ^/v2 { payment_api; }
--- init
main::authorize('k14-1');
--- request eval
[map { "GET $_?merchantId=M1&idempotencyKey=k14-1" }
 '/v2/', '/v2/payments/', '/v2', '/v2/authorize/', '/v2/capture/x/']
--- error_code eval
[200, 200, 404, 404, 405]
--- response_headers_like eval
[("Content-Type: .*") x 5]



=== it is counted, and logged, by the name of lookup
--- http_config
    log_format payment '[$payment_operation $payment_status $payment_error]';
--- config
    access_log logs/access.log payment;
    location /api/payments { payment_api; }
    location = /metrics { payment_status prometheus; }
--- init
main::authorize('k15-1');
PaymentTest::http('GET', "/api/payments/?merchantId=M1&idempotencyKey=$_")
    for 'k15-1', 'k15-2';
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_like eval
qr/operation="lookup",outcome="NOT_FOUND"[^\n]* 1\n/
--- access_log eval
[qr/^\[lookup AUTHORIZED -\]$/, qr/^\[lookup - NOT_FOUND\]$/]



=== the error log has the path, and not the key
--- http_config
    limit_req_zone $server_name zone=one:1m rate=1r/m;
--- config
    location /api/payments { payment_api; limit_req zone=one; limit_req_status 429; }
--- init
PaymentTest::http('GET', '/api/payments/?merchantId=M1&idempotencyKey=k16-one');
--- request
GET /api/payments/?merchantId=M1&idempotencyKey=k16-two
--- error_code: 429
--- response_headers
Content-Type: text/html
--- error_log eval
qr{\[error\].* limiting requests.*, request: "GET /api/payments/", host: }
--- no_error_log eval
qr{\[(?!debug)\w+\].*k16}



=== nor has it in HTTP/2, nor where nobody may come
--- config
    location /api/payments { payment_api; deny all; }
    $TEST_NGINX_PAYMENT_HTTP2;
--- init
PaymentTest::http2('GET', '/api/payments/?merchantId=M1&idempotencyKey=k17-two');
--- request
GET /api/payments/?merchantId=M1&idempotencyKey=k17-one
--- error_code: 403
--- response_headers
Content-Type: text/html
--- error_log eval
[qr{forbidden by rule.*, request: "GET /api/payments/", host: "localhost"},
 qr{forbidden by rule.*, request: "GET /api/payments/", host: "127}]
--- no_error_log eval
qr{\[(?!debug)\w+\].*k17}
