# What is wrong with a request is found before the database hears of it, and
# told with the member's name. Nothing of such a request is stored.

use lib 't/lib';
use PaymentTest;
use Test::Nginx::Socket 'no_plan';

our $uri = '/api/payments/authorize';


# An authorize request with one member replaced by this JSON text, or left out.

sub with {
    my ($member, $json) = @_;
    my %m = (merchantId => '"M1"', amount => 1000, currency => '"KRW"',
             idempotencyKey => '"v"', $member => $json);

    return "POST $main::uri\n{" . join(',', map { "\"$_\":$m{$_}" }
                                            grep { defined $m{$_} }
                                            sort keys %m) . '}';
}

our @refused = ([\&PaymentTest::told, \&PaymentTest::with_nothing_kept]) x 60;

run_tests();

__DATA__

=== every member that must be there
--- request eval
[map { main::with($_, undef) } qw( merchantId amount currency idempotencyKey )]
--- error_code eval
[(400) x 4]
--- response_body_filters eval
[@main::refused]
--- response_body eval
[map { "400 INVALID_REQUEST $_\n" } qw( merchantId amount currency idempotencyKey )]



=== null is as good as nothing
--- request eval
[map { main::with($_, 'null') } qw( merchantId amount currency idempotencyKey )]
--- error_code eval
[(400) x 4]
--- response_body_filters eval
[@main::refused]
--- response_body eval
[map { "400 INVALID_REQUEST $_\n" } qw( merchantId amount currency idempotencyKey )]



=== merchantId
--- request eval
[map { main::with('merchantId', $_) }
 '""', '"  "', '"' . 'm' x 33 . '"', '"' . "\xed\x95\x9c" x 33 . '"',
 '7', 'true', '[]', '{}', '"a\u0000b"', '"a\nb"', '"a\u007fb"']
--- error_code eval
[(400) x 11]
--- response_body_filters eval
[@main::refused]
--- response_body eval
[("400 INVALID_REQUEST merchantId\n") x 11]



=== amount
--- request eval
[map { main::with('amount', $_) }
 '0', '-1', '-0', '1.0', '1.5', '1e3', '1E3', '10e-1', '"1000"', '""', 'true',
 '[]', '[1]', '{}', '9007199254740992', '9223372036854775807',
 '9223372036854775808', '-9223372036854775809',
 '123456789012345678901234567890', '1e400']
--- error_code eval
[(400) x 20]
--- response_body_filters eval
[@main::refused]
--- response_body eval
[("400 INVALID_REQUEST amount\n") x 20]



=== currency
--- request eval
[map { main::with('currency', $_) }
 '""', '"KR"', '"KRWX"', '"krw"', '"XYZ"', '"XXX"', '"XTS"', '"XAU"', '"K W"',
 '" KRW"', '410', 'false', '["KRW"]', '"\u212aRW"']
--- error_code eval
[(400) x 14]
--- response_body_filters eval
[@main::refused]
--- response_body eval
[("400 INVALID_REQUEST currency\n") x 14]



=== idempotencyKey
--- request eval
[map { main::with('idempotencyKey', $_) }
 '""', '"   "', '"' . 'k' x 65 . '"', '"' . "\xed\x95\x9c" x 65 . '"', '1',
 'true', '[]', '{}', '"a\u0000"', '"a\rb"']
--- error_code eval
[(400) x 10]
--- response_body_filters eval
[@main::refused]
--- response_body eval
[("400 INVALID_REQUEST idempotencyKey\n") x 10]



=== metadata
--- request eval
[map { main::with('metadata', $_) }
 '"text"', '[]', '7', '{"a":1}', '{"a":null}', '{"a":{}}', '{"a":["b"]}',
 '{"":"v"}', '{"' . 'n' x 41 . '":"v"}', '{"a":"' . 'v' x 501 . '"}',
 '{"a":"x\u0001"}',
 '{' . CORE::join(',', map { qq["k$_":"v"] } 1 .. 21) . '}']
--- error_code eval
[(400) x 12]
--- response_body_filters eval
[@main::refused]
--- response_body eval
[("400 INVALID_REQUEST metadata\n") x 12]



=== no object at all
--- request eval
[map { "POST $main::uri\n$_" }
 '[]', '"text"', '7', 'true', 'null', '{', '}', '{"merchantId"', 'merchantId=M1',
 '{"amount":1,}', "{'amount':1}", '{"amount":01}', '{"amount":+1}',
 '{"amount":.5}', '{"amount":0x10}', '{"amount":NaN}', '{"amount":Infinity}',
 '{} {}', '{}x', '/* c */ {}', "\xef\xbb\xbf{}"]
--- error_code eval
[(400) x 21]
--- response_body_filters eval
[@main::refused]
--- response_body_like eval
[(qr/^400 INVALID_REQUEST( \w+)?$/) x 21]



=== an empty body, with a length and without
--- request eval
["POST $main::uri", "POST $main::uri"]
--- more_headers eval
["Content-Type: application/json\nContent-Length: 0",
 "Content-Type: application/json"]
--- error_code eval
[400, 400]
--- response_body_filters eval
[@main::refused]
--- response_body eval
["400 INVALID_REQUEST\n", "400 INVALID_REQUEST\n"]



=== a member given twice, whatever its values
--- request eval
[qq[POST $main::uri
{"merchantId":"M1","amount":1,"currency":"KRW","idempotencyKey":"d1","amount":1}],
qq[POST $main::uri
{"merchantId":"M1","merchantId":"M2","amount":1,"currency":"KRW","idempotencyKey":"d2"}],
qq[POST $main::uri
{"merchantId":"M1","amount":1,"currency":"KRW","idempotencyKey":"d3","idempotency\\u004bey":"d4"}]]
--- error_code eval
[400, 400, 400]
--- response_body_filters eval
[@main::refused]
--- response_body_like eval
["^400 INVALID_REQUEST amount\$", "^400 INVALID_REQUEST merchantId\$",
 "^400 INVALID_REQUEST"]



=== and inside metadata too
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":1,"currency":"KRW","idempotencyKey":"d5","metadata":{"a":"1","a":"2"}}
--- error_code: 400
--- response_body_filters eval
[\&PaymentTest::told, \&PaymentTest::with_nothing_kept]
--- response_body
400 INVALID_REQUEST metadata



=== nested beyond reason, finished or not
--- request eval
[main::with('more', '[' x 3500 . ']' x 3500), main::with('more', '[' x 7000)]
--- error_code eval
[400, 400]
--- response_body_filters eval
[@main::refused]
--- response_body eval
["400 INVALID_REQUEST\n", "400 INVALID_REQUEST\n"]



=== what is not UTF-8, in names and in values
--- request eval
[map { "POST $main::uri\n" . $_ }
 qq[{"merchantId":"M\xff","amount":1,"currency":"KRW","idempotencyKey":"u1"}],
 qq[{"merchantId":"M\xc0\xaf","amount":1,"currency":"KRW","idempotencyKey":"u2"}],
 qq[{"merchantId":"M\xed\xa0\x80","amount":1,"currency":"KRW","idempotencyKey":"u3"}],
 qq[{"merchantId":"M\xf4\x90\x80\x80","amount":1,"currency":"KRW","idempotencyKey":"u4"}],
 qq[{"merchantId":"M1","amount":1,"currency":"KRW","idempotencyKey":"u5\xe2\x82"}],
 qq[{"merchantId":"M1","amount":1,"currency":"KRW","idempotencyKey":"u6","\xff":1}],
 qq[{"merchantId":"\\ud800","amount":1,"currency":"KRW","idempotencyKey":"u7"}]]
--- error_code eval
[(400) x 7]
--- response_body_filters eval
[@main::refused]
--- response_body_like eval
[(qr/^400 INVALID_REQUEST/) x 7]



=== a NUL byte, wherever it is
--- request eval
[map { "POST $main::uri\n" . $_ }
 qq[{"merchantId":"M1\0","amount":1,"currency":"KRW","idempotencyKey":"n1"}],
 qq[{"merchantId":"M1","amount":1\0,"currency":"KRW","idempotencyKey":"n2"}],
 qq[{"merchantId":"M1","amount":1,"currency":"KRW","idempotencyKey":"n3"}\0],
 qq[\0{"merchantId":"M1","amount":1,"currency":"KRW","idempotencyKey":"n4"}]]
--- error_code eval
[(400) x 4]
--- response_body_filters eval
[@main::refused]
--- response_body_like eval
[(qr/^400 INVALID_REQUEST/) x 4]



=== a body of more than 8 KiB
--- request eval
[main::with('more', '"' . 'x' x 8192 . '"'), main::with('more', '"' . 'x' x 200000 . '"')]
--- error_code eval
[413, 413]
--- response_body_filters eval
[@main::refused]
--- response_body eval
["413 PAYLOAD_TOO_LARGE\n", "413 PAYLOAD_TOO_LARGE\n"]



=== a chunked body of more than 8 KiB
--- request eval
my $body = '{"merchantId":"' . 'x' x 9000 . '"}';
"POST $main::uri\n" . sprintf("%x\r\n%s\r\n0\r\n\r\n", length $body, $body)
--- more_headers
Content-Type: application/json
Transfer-Encoding: chunked
--- error_code: 413
--- response_body_filters eval
\&PaymentTest::told
--- response_body
413 PAYLOAD_TOO_LARGE



=== methods
--- request eval
["GET $main::uri", "PUT $main::uri\n{}", "DELETE $main::uri", "PATCH $main::uri\n{}"]
--- error_code eval
[(405) x 4]
--- response_headers eval
[("Allow: POST\nContent-Type: application/problem+json") x 4]
--- response_body_filters eval
[@main::refused]
--- response_body eval
[("405 METHOD_NOT_ALLOWED\n") x 4]



=== methods of a payment
--- request eval
my $p = '/api/payments/01890000-0000-7000-8000-000000000000';
["POST $p\n{}", "DELETE $p", "PUT $p\n{}"]
--- error_code eval
[(405) x 3]
--- response_headers eval
[("Allow: GET, HEAD") x 3]
--- response_body_filters eval
[@main::refused]
--- response_body eval
[("405 METHOD_NOT_ALLOWED\n") x 3]



=== methods of the operations on a payment
--- request eval
my $id = '01890000-0000-7000-8000-000000000000';
[map { "GET /api/payments/$_/$id" } qw( capture refund void )]
--- error_code eval
[(405) x 3]
--- response_headers eval
[("Allow: POST") x 3]
--- response_body_filters eval
[@main::refused]
--- response_body eval
[("405 METHOD_NOT_ALLOWED\n") x 3]



=== content types that are not JSON
--- request eval
[map { main::with('amount', 1) } 1 .. 5]
--- more_headers eval
["Content-Type: text/plain",
 "Content-Type: application/x-www-form-urlencoded",
 "Content-Type: application/jsonp",
 "Content-Type: multipart/form-data; boundary=application/json",
 "Content-Type: text/application/json"]
--- error_code eval
[(415) x 5]
--- response_body_filters eval
[@main::refused]
--- response_body eval
[("415 UNSUPPORTED_MEDIA_TYPE\n") x 5]



=== the key in body and header, different
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":1,"currency":"KRW","idempotencyKey":"one"}
--- more_headers
Content-Type: application/json
Idempotency-Key: "two"
--- error_code: 400
--- response_body_filters eval
[\&PaymentTest::told, \&PaymentTest::with_nothing_kept]
--- response_body
400 INVALID_REQUEST idempotencyKey



=== an Idempotency-Key header that is none
--- request eval
[map { main::with('idempotencyKey', undef) } 1 .. 7]
--- more_headers eval
[map { "Content-Type: application/json\nIdempotency-Key: $_" }
 '""', '"unfinished', '"a" "b"', 'two words', "\"caf\xc3\xa9\"", '"a";p=1,"b"',
 '"' . 'k' x 256 . '"']
--- error_code eval
[(400) x 7]
--- response_body_filters eval
[@main::refused]
--- response_body eval
[("400 INVALID_REQUEST Idempotency-Key\n") x 7]



=== two Idempotency-Key headers
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":1,"currency":"KRW"}
--- more_headers
Content-Type: application/json
Idempotency-Key: "one"
Idempotency-Key: "two"
--- error_code: 400
--- response_body_filters eval
[\&PaymentTest::told, \&PaymentTest::with_nothing_kept]
--- response_body
400 INVALID_REQUEST Idempotency-Key



=== a path that is none
--- request eval
["POST /api/payments/authorize/x\n{}", "POST /api/payments/capture/x/y\n{}",
 "POST /api/payments/cancel/x\n{}", "GET /api/payments//x/"]
--- error_code eval
[(404) x 4]
--- response_body_filters eval
[@main::refused]
--- response_body eval
[("404 NOT_FOUND\n") x 4]



=== an unknown member, where they are refused
--- http_config
    payment_unknown_members refuse;
--- request eval
[main::with('colour', '"blue"'), main::with('reason', '"why"')]
--- error_code eval
[400, 400]
--- response_body_filters eval
[@main::refused]
--- response_body eval
["400 INVALID_REQUEST colour\n", "400 INVALID_REQUEST reason\n"]



=== a currency that is not accepted here
--- http_config
    payment_currencies KRW USD;
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":1,"currency":"EUR","idempotencyKey":"c1"}
--- error_code: 400
--- response_body_filters eval
[\&PaymentTest::told, \&PaymentTest::with_nothing_kept]
--- response_body
400 INVALID_REQUEST currency



=== more than the largest amount allowed here
--- http_config
    payment_max_amount 5000;
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":5001,"currency":"EUR","idempotencyKey":"c2"}
--- error_code: 400
--- response_body_filters eval
[\&PaymentTest::told, \&PaymentTest::with_nothing_kept]
--- response_body
400 INVALID_REQUEST amount



=== a body larger than allowed here
--- http_config
    payment_max_body_size 100;
--- request eval
main::with('more', '"' . 'x' x 100 . '"')
--- error_code: 413
--- response_body_filters eval
[\&PaymentTest::told, \&PaymentTest::with_nothing_kept]
--- response_body
413 PAYLOAD_TOO_LARGE



=== nothing of a refused body is in a log
--- request
POST /api/payments/authorize
{"merchantId":"secret-merchant","amount":-77001,"currency":"KRW","idempotencyKey":"secret-key"}
--- error_code: 400
--- log_level: info
--- no_error_log
secret-merchant
secret-key
77001
--- no_access_log
secret-merchant



=== a content encoding is refused by its name, whatever the body is
--- request eval
[(main::with('more', '1')) x 4]
--- more_headers eval
[map { "Content-Type: application/json\n$_" }
 'Content-Encoding: gzip', 'content-encoding: br', 'Content-Encoding: x"\\',
 "Content-Encoding: gzip\nContent-Encoding: identity"]
--- error_code eval
[(415) x 4]
--- response_body_like eval
['"detail":"the content encoding \\\\"gzip\\\\" is not supported.*"UNSUPPORTED_MEDIA_TYPE".*"field":"Content-Encoding"',
 '"detail":"the content encoding \\\\"br\\\\" is',
 '"detail":"the content encoding \\\\"x\?\?\\\\" is',
 '"detail":"there are several Content-Encoding headers"']



=== two content types are none
--- request eval
main::with('more', '1')
--- more_headers
Content-Type: application/json
Content-Type: text/plain
--- error_code: 415
--- response_body_filters eval
[\&PaymentTest::told, \&PaymentTest::with_nothing_kept]
--- response_body
415 UNSUPPORTED_MEDIA_TYPE
