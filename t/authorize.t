# POST .../authorize: what a client is told, and that a row and its event were
# committed before it was told.

use lib 't/lib';
use PaymentTest;
use Test::Nginx::Socket 'no_plan';

run_tests();

__DATA__

=== an authorization is answered, stored, and has its event
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":1000,"currency":"KRW","idempotencyKey":"a1"}
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
P1 AUTHORIZED 1000 KRW, captured 0, refunded 0
row: M1 AUTHORIZED 1000 KRW, captured 0, refunded 0, version 1
events: authorized



=== the answer has the members that clients know
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":1000,"currency":"KRW","idempotencyKey":"a2"}
--- response_body_filters eval
sub {
    my $m = JSON::PP::decode_json(shift);
    my @missing = grep { !exists $m->{$_} }
                  qw( paymentId status amount currency createdAt ledgerEntries
                      message );
    return "missing: @missing\n" . JSON::PP::encode_json($m->{ledgerEntries});
}
--- response_body chomp
missing: 
[]
--- response_headers
Content-Type: application/json
! Idempotent-Replayed
! Retry-After



=== numbers are numbers, not strings
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":1000,"currency":"KRW","idempotencyKey":"a3"}
--- response_body_like: "amount":\s*1000[,}]



=== createdAt is the row's, in UTC, and now
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":1000,"currency":"KRW","idempotencyKey":"a4"}
--- response_body_filters eval
sub {
    my $m = JSON::PP::decode_json(shift);
    my ($same, $age) = CORE::split ' ', PaymentTest::sql(
        "SELECT created_at = STR_TO_DATE('$m->{createdAt}',
                                         '%Y-%m-%dT%H:%i:%s.%fZ'),
                ABS(TIMESTAMPDIFF(SECOND, created_at, UTC_TIMESTAMP())) < 60
         FROM payment
         WHERE id = UNHEX(REPLACE('$m->{paymentId}', '-', ''))");
    return "same $same, recent $age";
}
--- response_body chomp
same 1, recent 1



=== the event's columns, as Debezium's outbox router reads them
--- request
POST /api/payments/authorize
{"merchantId":"M5","amount":2500,"currency":"USD","idempotencyKey":"a5"}
--- response_body_filters eval
sub {
    my $id = JSON::PP::decode_json(shift)->{paymentId};
    return PaymentTest::sql("SELECT aggregatetype, type, merchant_id, version,
                                    JSON_VALID(payload)
                             FROM outbox_event WHERE aggregateid = '$id'");
}
--- response_body eval
"payment\tauthorized\tM5\t1\t1\n"



=== the event's payload
--- request
POST /api/payments/authorize
{"merchantId":"M6","amount":2500,"currency":"USD","idempotencyKey":"a6"}
--- response_body_filters eval
sub {
    my $m = JSON::PP::decode_json(shift);
    my $e = JSON::PP::decode_json(PaymentTest::sql(
        "SELECT payload FROM outbox_event
         WHERE aggregateid = '$m->{paymentId}'"));
    my $own = $e->{paymentId} eq $m->{paymentId} ? 'its own' : 'another';
    return "$own id, $e->{merchantId} $e->{status} $e->{amount} $e->{currency}"
           . ", version $e->{version}, at "
           . ($e->{occurredAt} eq $m->{createdAt} ? 'createdAt' : 'no');
}
--- response_body chomp
its own id, M6 AUTHORIZED 2500 USD, version 1, at createdAt



=== the least and the largest amount
--- request eval
[qq[POST /api/payments/authorize
{"merchantId":"M1","amount":1,"currency":"KRW","idempotencyKey":"a7-1"}],
qq[POST /api/payments/authorize
{"merchantId":"M1","amount":9007199254740991,"currency":"USD","idempotencyKey":"a7-2"}]]
--- error_code eval
[200, 200]
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body eval
["P1 AUTHORIZED 1 KRW, captured 0, refunded 0
row: M1 AUTHORIZED 1 KRW, captured 0, refunded 0, version 1
events: authorized
", "P2 AUTHORIZED 9007199254740991 USD, captured 0, refunded 0
row: M1 AUTHORIZED 9007199254740991 USD, captured 0, refunded 0, version 1
events: authorized
"]



=== the longest merchant and the longest key, in characters
--- request eval
my $merchant = "\xc3\x87\xed\x95\x9c" x 16;
my $key = "\xf0\x9f\x92\xb6" x 64;
qq[POST /api/payments/authorize
{"merchantId":"$merchant","amount":1,"currency":"EUR","idempotencyKey":"$key"}]
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body eval
"P1 AUTHORIZED 1 EUR, captured 0, refunded 0
row: " . "\xc3\x87\xed\x95\x9c" x 16 . " AUTHORIZED 1 EUR, captured 0, refunded 0, version 1
events: authorized
"



=== what looks like SQL is a name
--- request
POST /api/payments/authorize
{"merchantId":"O'Neil\"; -- \\' %s","amount":7,"currency":"EUR","idempotencyKey":"'); DROP TABLE payment; --"}
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
P1 AUTHORIZED 7 EUR, captured 0, refunded 0
row: O'Neil"; -- \' %s AUTHORIZED 7 EUR, captured 0, refunded 0, version 1
events: authorized



=== white space, order and escapes do not matter
--- request
POST /api/payments/authorize
 {
    "idempotencyKey" : "a10",
    "currency":"\u004bRW", "amount" : 12,
    "merchantId" : "M\u0031"
 }
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
P1 AUTHORIZED 12 KRW, captured 0, refunded 0
row: M1 AUTHORIZED 12 KRW, captured 0, refunded 0, version 1
events: authorized



=== metadata goes into the event
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":5,"currency":"KRW","idempotencyKey":"a11","metadata":{"order":"A-7","note":"한 \"quoted\" line\nand a second"}}
--- response_body_filters eval
sub {
    my $id = JSON::PP::decode_json(shift)->{paymentId};
    my $m = PaymentTest::sql("SELECT JSON_VALUE(payload, '\$.metadata.order'),
                                     HEX(JSON_VALUE(payload, '\$.metadata.note'))
                              FROM outbox_event WHERE aggregateid = '$id'");
    $m =~ s/\t(\w+)/"\t" . pack 'H*', $1/e;
    return $m;
}
--- response_body eval
"A-7\t\xed\x95\x9c \"quoted\" line\nand a second\n"



=== as much metadata as is allowed
--- request eval
my $m = CORE::join ',', map { sprintf '"%040d":"%s"', $_, 'v' x 500 } 1 .. 14;
qq[POST /api/payments/authorize
{"merchantId":"M1","amount":5,"currency":"KRW","idempotencyKey":"a12","metadata":{$m}}]
--- response_body_filters eval
sub {
    my $id = JSON::PP::decode_json(shift)->{paymentId};
    return PaymentTest::sql("SELECT JSON_LENGTH(payload, '\$.metadata')
                             FROM outbox_event WHERE aggregateid = '$id'");
}
--- response_body
14



=== the key may come in the header
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":3,"currency":"KRW"}
--- more_headers
Content-Type: application/json
Idempotency-Key: "a13"
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
P1 AUTHORIZED 3 KRW, captured 0, refunded 0
row: M1 AUTHORIZED 3 KRW, captured 0, refunded 0, version 1
events: authorized



=== a member that nobody knows is ignored
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":3,"currency":"KRW","idempotencyKey":"a14","colour":["blue",{"dark":true}]}
--- response_body_filters eval
\&PaymentTest::told
--- response_body
P1 AUTHORIZED 3 KRW, captured 0, refunded 0



=== content types that are JSON
--- request eval
[map { qq[POST /api/payments/authorize
{"merchantId":"M1","amount":3,"currency":"KRW","idempotencyKey":"a15-$_"}] } 1 .. 3]
--- more_headers eval
["Content-Type: application/json; charset=utf-8",
 "Content-Type: APPLICATION/JSON",
 "Content-Type: application/json;charset=\"UTF-8\""]
--- error_code eval
[200, 200, 200]



=== ids are UUIDs of version 7, each larger than the one before
--- request eval
[map { qq[POST /api/payments/authorize
{"merchantId":"M1","amount":3,"currency":"KRW","idempotencyKey":"a16-$_"}] } 1 .. 3]
--- error_code eval
[200, 200, 200]
--- response_body_filters eval
my $last = '';
sub {
    my $id = JSON::PP::decode_json(shift)->{paymentId};
    my $text = $id =~ /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab]/ ? 'v7' : $id;
    $text .= ' after' if $id gt $last;
    $last = $id;
    return $text;
}
--- response_body eval
["v7 after", "v7 after", "v7 after"]



=== the id carries its merchant's slot (CRC-32 modulo 1024)
--- request
POST /api/payments/authorize
{"merchantId":"123456789","amount":3,"currency":"KRW","idempotencyKey":"a17"}
--- response_body_filters eval
sub {
    my ($g) = JSON::PP::decode_json(shift)->{paymentId} =~ /-([0-9a-f]{4})-[0-9a-f]{12}$/;
    return (hex $g) >> 4 & 0x3ff;
}
--- response_body eval
0xcbf43926 % 1024



=== another prefix
--- config
    location /v2/pay {
        payment_api;
    }
--- request
POST /v2/pay/authorize
{"merchantId":"M1","amount":3,"currency":"KRW","idempotencyKey":"a18"}
--- response_body_filters eval
\&PaymentTest::told
--- response_body
P1 AUTHORIZED 3 KRW, captured 0, refunded 0



=== currencies of each exponent
--- request eval
[map { qq[POST /api/payments/authorize
{"merchantId":"M1","amount":1234,"currency":"$_","idempotencyKey":"a19-$_"}] } qw( JPY USD KWD CLF )]
--- error_code eval
[200, 200, 200, 200]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["P1 AUTHORIZED 1234 JPY, captured 0, refunded 0\n",
 "P2 AUTHORIZED 1234 USD, captured 0, refunded 0\n",
 "P3 AUTHORIZED 1234 KWD, captured 0, refunded 0\n",
 "P4 AUTHORIZED 1234 CLF, captured 0, refunded 0\n"]
