# POST .../capture/{paymentId}: all of an authorization, a part of it, several
# parts, never more than all.

use lib 't/lib';
use PaymentTest;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== the whole amount, with the body that clients send
--- init
PaymentTest::given(A => { amount => 1000 });
--- request
POST /api/payments/capture/{A}
{"merchantId":"M1"}
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
A CAPTURED 1000 KRW, captured 1000, refunded 0
row: M1 CAPTURED 1000 KRW, captured 1000, refunded 0, version 2
events: authorized, captured



=== a part, another part, the rest
--- init
PaymentTest::given(A => { amount => 1000 });
--- request eval
[map { qq[POST /api/payments/capture/{A}
{"merchantId":"M1"$_}] } ',"amount":1', ',"amount":499', '']
--- error_code eval
[200, 200, 200]
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body eval
["A PARTIALLY_CAPTURED 1000 KRW, captured 1, refunded 0
row: M1 PARTIALLY_CAPTURED 1000 KRW, captured 1, refunded 0, version 2
events: authorized, captured
",
"A PARTIALLY_CAPTURED 1000 KRW, captured 500, refunded 0
row: M1 PARTIALLY_CAPTURED 1000 KRW, captured 500, refunded 0, version 3
events: authorized, captured, captured
",
"A CAPTURED 1000 KRW, captured 1000, refunded 0
row: M1 CAPTURED 1000 KRW, captured 1000, refunded 0, version 4
events: authorized, captured, captured, captured
"]



=== the last capture releases the rest
--- init
PaymentTest::given(A => { amount => 1000 }, capture => { amount => 300 });
--- request eval
[qq[POST /api/payments/capture/{A}
{"merchantId":"M1","amount":200,"final":true}],
 qq[POST /api/payments/capture/{A}
{"merchantId":"M1","amount":1}],
 qq[POST /api/payments/refund/{A}
{"merchantId":"M1","reason":"r"}]]
--- error_code eval
[200, 409, 200]
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body eval
["A CAPTURED 1000 KRW, captured 500, refunded 0
row: M1 CAPTURED 1000 KRW, captured 500, refunded 0, version 3
events: authorized, captured, captured
",
"409 CAPTURE_CONFLICT, of A
row: M1 CAPTURED 1000 KRW, captured 500, refunded 0, version 3
events: authorized, captured, captured
",
"A REFUNDED 1000 KRW, captured 500, refunded 500
row: M1 REFUNDED 1000 KRW, captured 500, refunded 500, version 4
events: authorized, captured, captured, refunded
"]



=== a capture that is not final is as before; final is a boolean
--- init
PaymentTest::given(A => { amount => 1000 });
--- request eval
[map { qq[POST /api/payments/capture/{A}
{"merchantId":"M1","amount":1,"final":$_}] } 'false', 'null', '1', '"true"']
--- error_code eval
[200, 200, 400, 400]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["A PARTIALLY_CAPTURED 1000 KRW, captured 1, refunded 0\n",
 "A PARTIALLY_CAPTURED 1000 KRW, captured 2, refunded 0\n",
 ("400 INVALID_REQUEST final\n") x 2]



=== with a key, final is a part of what the request means
--- init
PaymentTest::given(A => { amount => 1000 });
--- request eval
[map { qq[POST /api/payments/capture/{A}
{"merchantId":"M1","amount":1,"idempotencyKey":"final-1"$_}] }
 ',"final":true', ',"final":true', '']
--- error_code eval
[200, 200, 422]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("A CAPTURED 1000 KRW, captured 1, refunded 0\n") x 2,
 "422 IDEMPOTENCY_KEY_REUSED\n"]



=== parts that add up are the whole
--- init
PaymentTest::given(A => { amount => 1000 }, capture => { amount => 400 });
--- request
POST /api/payments/capture/{A}
{"merchantId":"M1","amount":600}
--- response_body_filters eval
\&PaymentTest::told
--- response_body
A CAPTURED 1000 KRW, captured 1000, refunded 0



=== more than was authorized
--- init
PaymentTest::given(A => { amount => 1000 });
--- request
POST /api/payments/capture/{A}
{"merchantId":"M1","amount":1001}
--- error_code: 409
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
409 CAPTURE_CONFLICT amount, of A
row: M1 AUTHORIZED 1000 KRW, captured 0, refunded 0, version 1
events: authorized



=== more than is left
--- init
PaymentTest::given(A => { amount => 1000 }, capture => { amount => 400 });
--- request
POST /api/payments/capture/{A}
{"merchantId":"M1","amount":601}
--- error_code: 409
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
409 CAPTURE_CONFLICT amount, of A
row: M1 PARTIALLY_CAPTURED 1000 KRW, captured 400, refunded 0, version 2
events: authorized, captured



=== twice, without a key: the state says no
--- init
PaymentTest::given(A => { amount => 1000 });
--- request eval
[(qq[POST /api/payments/capture/{A}
{"merchantId":"M1"}]) x 2]
--- error_code eval
[200, 409]
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body eval
["A CAPTURED 1000 KRW, captured 1000, refunded 0
row: M1 CAPTURED 1000 KRW, captured 1000, refunded 0, version 2
events: authorized, captured
",
"409 CAPTURE_CONFLICT, of A
row: M1 CAPTURED 1000 KRW, captured 1000, refunded 0, version 2
events: authorized, captured
"]



=== after a void
--- init
PaymentTest::given(A => { amount => 1000 }, void => {});
--- request
POST /api/payments/capture/{A}
{"merchantId":"M1"}
--- error_code: 409
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
409 CAPTURE_CONFLICT, of A
row: M1 VOIDED 1000 KRW, captured 0, refunded 0, version 2
events: authorized, voided



=== after a refund
--- init
PaymentTest::given(A => { amount => 1000 }, capture => { amount => 400 },
                   refund => { amount => 100 });
--- request
POST /api/payments/capture/{A}
{"merchantId":"M1","amount":100}
--- error_code: 409
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
409 CAPTURE_CONFLICT, of A
row: M1 PARTIALLY_REFUNDED 1000 KRW, captured 400, refunded 100, version 3
events: authorized, captured, refunded



=== no such payment, of this merchant or of any
--- init
PaymentTest::given(A => { amount => 1000, merchantId => 'M9' });
--- request eval
[qq[POST /api/payments/capture/{A}
{"merchantId":"M1"}],
 qq[POST /api/payments/capture/01890000-0000-7000-8000-000000000000
{"merchantId":"M1"}],
 qq[POST /api/payments/capture/00000000-0000-0000-0000-000000000000
{"merchantId":"M1"}]]
--- error_code eval
[404, 404, 404]
--- response_body_filters eval
[[\&PaymentTest::told_and_kept], [\&PaymentTest::told], [\&PaymentTest::told]]
--- response_body eval
["404 NOT_FOUND
row: M9 AUTHORIZED 1000 KRW, captured 0, refunded 0, version 1
events: authorized
", "404 NOT_FOUND\n", "404 NOT_FOUND\n"]



=== another merchant's payment is not told from none
--- init
PaymentTest::given(A => { amount => 1000, merchantId => 'M9' });
--- request eval
[qq[POST /api/payments/capture/{A}
{"merchantId":"M1"}],
 qq[POST /api/payments/capture/01890000-0000-7000-8000-000000000000
{"merchantId":"M1"}]]
--- error_code eval
[404, 404]
--- response_body_filters eval
\&PaymentTest::same
--- response_body eval
["404 NOT_FOUND\n", "same\n"]



=== an id that is none
--- request eval
[map { qq[POST /api/payments/capture/$_
{"merchantId":"M1"}] } '7', 'x' x 36, '01890000000070008000000000000000',
 '01890000-0000-7000-8000-00000000000', '01890000-0000-7000-8000-0000000000000']
--- error_code eval
[(404) x 5]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("404 NOT_FOUND\n") x 5]



=== an id in capitals is the same id
--- init
PaymentTest::given(A => { amount => 1000 });
$PaymentTest::block->set_value('request', "POST /api/payments/capture/"
    . uc(PaymentTest::id_of('A')) . qq[\n{"merchantId":"M1"}]);
--- request
POST /replaced/by/init
--- response_body_filters eval
\&PaymentTest::told
--- response_body
A CAPTURED 1000 KRW, captured 1000, refunded 0



=== members that are wrong
--- init
PaymentTest::given(A => { amount => 1000 });
--- request eval
[map { "POST /api/payments/capture/{A}\n$_" }
 '{}', '{"merchantId":""}', '{"merchantId":7}', '{"merchantId":"M1","amount":0}',
 '{"merchantId":"M1","amount":-5}', '{"merchantId":"M1","amount":1.0}',
 '{"merchantId":"M1","amount":"5"}', '{"merchantId":"M1","idempotencyKey":""}',
 '{"merchantId":"M1","metadata":[]}', '', '[]']
--- error_code eval
[(400) x 11]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[map { "400 INVALID_REQUEST$_\n" } (' merchantId') x 3, (' amount') x 4,
 ' idempotencyKey', ' metadata', '', '']



=== and change nothing
--- init
PaymentTest::given(A => { amount => 1000 });
--- request
POST /api/payments/capture/{A}
{"merchantId":"M1","amount":1e2}
--- error_code: 400
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
400 INVALID_REQUEST amount
row: M1 AUTHORIZED 1000 KRW, captured 0, refunded 0, version 1
events: authorized



=== the event says how much, and the version
--- init
PaymentTest::given(A => { amount => 1000 }, capture => { amount => 300 });
--- request
POST /api/payments/capture/{A}
{"merchantId":"M1","amount":200}
--- response_body_filters eval
sub {
    my $id = JSON::PP::decode_json(shift)->{paymentId};
    my @events = map { JSON::PP::decode_json($_) } CORE::split /\n/, PaymentTest::sql(
        "SELECT payload FROM outbox_event WHERE aggregateid = '$id' ORDER BY id");
    return CORE::join '', map { "$_->{version} $_->{eventType} $_->{status} "
                          . "$_->{operationAmount} of $_->{amount}, "
                          . "captured $_->{capturedAmount}\n" } @events;
}
--- response_body
1 authorized AUTHORIZED 1000 of 1000, captured 0
2 captured PARTIALLY_CAPTURED 300 of 1000, captured 300
3 captured PARTIALLY_CAPTURED 200 of 1000, captured 500



=== by 30 clients at once, without keys: never more than all
--- init
PaymentTest::given(A => { amount => 1000 });
--- request
GET /status
--- response_body_filters eval
sub {
    my @answers = PaymentTest::http_at_once(30, 'POST',
        '/api/payments/capture/' . PaymentTest::id_of('A'),
        '{"merchantId":"M1","amount":90}');
    return PaymentTest::tally(map { $_->[0] } @answers)
           . PaymentTest::kept(PaymentTest::id_of('A'));
}
--- response_body eval
"11 x 200, 19 x 409
row: M1 PARTIALLY_CAPTURED 1000 KRW, captured 990, refunded 0, version 12
events: authorized" . ', captured' x 11 . "\n"



=== a reference is in the answer, in its replay, and in the event
--- init
PaymentTest::given(A => {});
PaymentTest::given(B => {}, capture => {});
PaymentTest::given(C => {});
--- request eval
["POST /api/payments/capture/{A}\n"
 . '{"merchantId":"M1","amount":1,"reference":"ship \"1\"","idempotencyKey":"ref-1"}',
 "POST /api/payments/capture/{A}\n"
 . '{"idempotencyKey":"ref-1","reference":"ship \u00221\"","amount":1,"merchantId":"M1"}',
 "POST /api/payments/refund/{B}\n"
 . '{"merchantId":"M1","reason":"r","reference":"ret-1"}',
 "POST /api/payments/void/{C}\n" . '{"merchantId":"M1","reference":"v"}',
 "GET /api/payments/{A}?merchantId=M1"]
--- error_code eval
[200, 200, 200, 200, 200]
--- response_body_like eval
[('"createdAt":"[^"]+Z","reference":"ship \\\\"1\\\\"","ledgerEntries"') x 2,
 '"reference":"ret-1"', '"reference":"v"',
 '^((?!reference).)*$']



=== the events have it
--- init
PaymentTest::given(A => {}, capture => { reference => 'e-1' },
                   refund => { reference => 'e-2' });
PaymentTest::given(B => {}, void => { reference => 'e-3' });
--- request
GET /api/payments/{A}?merchantId=M1
--- response_body_filters eval
sub {
    PaymentTest::sql("SELECT GROUP_CONCAT(type, ' ', COALESCE(
        JSON_VALUE(payload, '\$.reference'), '-') ORDER BY id SEPARATOR ', ')
        FROM outbox_event WHERE aggregateid IN ('"
        . join("', '", map { PaymentTest::id_of($_) } 'A', 'B') . "')")
}
--- response_body
authorized -, captured e-1, refunded e-2, authorized -, voided e-3



=== with a key, the reference is a part of what the request means
--- init
PaymentTest::given(A => {});
--- request eval
[map { "POST /api/payments/capture/{A}\n"
       . qq({"merchantId":"M1","amount":1,"idempotencyKey":"ref-2"$_}) }
 ',"reference":"a"', ',"reference":"b"', '']
--- error_code eval
[200, 422, 422]
--- response_headers_like eval
[("Content-Type: .*") x 3]



=== references that are none
--- init
PaymentTest::given(A => {});
--- request eval
[map { "POST /api/payments/capture/{A}\n"
       . qq({"merchantId":"M1","amount":1,"reference":$_}) }
 '""', '" "', '1', '"' . 'r' x 65 . '"', '"\\n"', 'null']
--- error_code eval
[(400) x 5, 200]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("400 INVALID_REQUEST reference\n") x 5,
 "A PARTIALLY_CAPTURED 1000 KRW, captured 1, refunded 0\n"]
