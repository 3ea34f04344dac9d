# GET .../{paymentId}/operations: what was done with a payment, with
# `payment_operations on`; and what GET shows of it.

use lib 't/lib';
use JSON::PP;
use PaymentTest;
use Test::Nginx::Socket 'no_plan';

# each operation in a few words: its version, what it moved and brought
sub listed {
    my ($body) = @_;
    my $json = JSON::PP::decode_json($body);

    return PaymentTest::told($body) if exists $json->{code};

    return join('', map {
        my $o = $_;
        my $metadata = $o->{metadata} // {};

        die "createdAt\n" if $o->{createdAt} !~ /^20\d\d-.*\.\d{3}Z$/;

        join(' ', "$o->{version} $o->{type} $o->{status} $o->{amount}",
             (map { "$_=$o->{$_}" } grep { defined $o->{$_} }
              qw( reason reference )),
             map { "$_:$metadata->{$_}" } sort keys %$metadata) . "\n"
    } @{ $json->{operations} })
    . (exists $json->{nextCursor} ? "next $json->{nextCursor}\n" : '');
}

run_tests();

__DATA__

=== every operation, with what it brought
--- http_config
    payment_operations on;
--- init
PaymentTest::given(A => { metadata => { order => '17', at => 'x' } },
                   capture => { amount => 700, reference => 'ship "1"' },
                   refund => { amount => 100, reason => "too\nsmall",
                               metadata => { box => '1' } },
                   refund => { reference => 'last' });
PaymentTest::given(B => {}, void => { reference => 'v' });
PaymentTest::given(C => {});
--- request eval
[map { "GET /api/payments/{$_}/operations?merchantId=M1" } 'A' .. 'C']
--- error_code eval
[200, 200, 200]
--- response_body_filters eval
\&main::listed
--- response_body eval
["1 authorize AUTHORIZED 1000 at:x order:17\n"
 . "2 capture PARTIALLY_CAPTURED 700 reference=ship \"1\"\n"
 . "3 refund PARTIALLY_REFUNDED 100 reason=too\nsmall box:1\n"
 . "4 refund REFUNDED 600 reason=returned reference=last\n",
 "1 authorize AUTHORIZED 1000\n2 void VOIDED 1000 reference=v\n",
 "1 authorize AUTHORIZED 1000\n"]



=== to the letter
--- http_config
    payment_operations on;
--- init
PaymentTest::given(A => { metadata => { order => '17' } });
--- request
GET /api/payments/{A}/operations?merchantId=M1
--- response_body_like chomp
^\{"paymentId":"[-0-9a-f]{36}","operations":\[\{"type":"authorize","version":1,"status":"AUTHORIZED","amount":1000,"createdAt":"[^"]+Z","metadata":\{"order":"17"\}\}\]\}$



=== a page, and the next one
--- http_config
    payment_operations on;
--- init
PaymentTest::given(A => {}, map { (capture => { amount => $_ }) } 1 .. 40);
--- request eval
["GET /api/payments/{A}/operations?merchantId=M1",
 "GET /api/payments/{A}/operations?merchantId=M1&cursor=20",
 "GET /api/payments/{A}/operations?cursor=40&merchantId=M1",
 "GET /api/payments/{A}/operations?cursor=41&merchantId=M1"]
--- error_code eval
[(200) x 4]
--- response_body_filters eval
sub { my $text = main::listed(@_); $text =~ s/ .*? / /g; $text =~ s/^(\d+) \S+ /$1 /mg; $text }
--- response_body eval
my $line = sub { $_[0] == 1 ? "1 1000\n" : "$_[0] " . ($_[0] - 1) . "\n" };
[CORE::join('', map({ $line->($_) } 1 .. 20), "next 20\n"),
 CORE::join('', map({ $line->($_) } 21 .. 40), "next 40\n"),
 $line->(41), '']



=== exactly a page has no next one
--- http_config
    payment_operations on;
--- init
PaymentTest::given(A => {}, map { (capture => { amount => 1 }) } 1 .. 19);
--- request
GET /api/payments/{A}/operations?merchantId=M1
--- response_body_like eval
qr/"version":20,[^{}]*\}\]\}$/



=== another merchant's, nobody's, and no id
--- http_config
    payment_operations on;
--- init
PaymentTest::given(A => { merchantId => 'M9' });
--- request eval
["GET /api/payments/{A}/operations?merchantId=M1",
 "GET /api/payments/01890000-0000-7000-8000-000000000000/operations?merchantId=M1",
 "GET /api/payments/x/operations?merchantId=M1"]
--- error_code eval
[404, 404, 404]
--- response_body_filters eval
\&PaymentTest::same
--- response_body eval
["404 NOT_FOUND\n", "same\n", "same\n"]



=== cursors and merchants that are none
--- http_config
    payment_operations on;
--- init
PaymentTest::given(A => {});
--- request eval
[(map { "GET /api/payments/{A}/operations?merchantId=M1&cursor=$_" }
  '', '0', '-1', 'x', '1x', '4294967296', '99999999999999999999999', '1&cursor=1'),
 "GET /api/payments/{A}/operations"]
--- error_code eval
[(400) x 9]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("400 INVALID_REQUEST cursor\n") x 8, "400 INVALID_REQUEST merchantId\n"]



=== HEAD, and another method
--- http_config
    payment_operations on;
--- init
PaymentTest::given(A => {});
--- request eval
["HEAD /api/payments/{A}/operations?merchantId=M1",
 "POST /api/payments/{A}/operations\n{}"]
--- error_code eval
[200, 405]
--- response_headers_like eval
["Content-Type: application/json", "Allow: GET, HEAD\nContent-Type: application/problem\\+json"]
--- response_body_like eval
["^\$", "METHOD_NOT_ALLOWED"]



=== GET gives back what the authorization brought, and a look-up does
--- http_config
    payment_operations on;
--- init
PaymentTest::given(A => { metadata => { order => '17' },
                          idempotencyKey => 'ops-1' },
                   capture => { metadata => { box => '1' } });
PaymentTest::given(B => {});
--- request eval
["GET /api/payments/{A}?merchantId=M1",
 "GET /api/payments/?merchantId=M1&idempotencyKey=ops-1",
 "GET /api/payments/{B}?merchantId=M1"]
--- error_code eval
[200, 200, 200]
--- response_body_like eval
['"updatedAt":"[^"]+","metadata":\{"order":"17"\},"ledgerEntries"',
 '"metadata":\{"order":"17"\},"ledgerEntries".*"operation":\{"type":"authorize"',
 '^((?!metadata).)*$']



=== a location without a prefix
--- http_config
    payment_operations on;
--- config
    location /api/payments { payment_api; }
    location ~ ^/v2 { payment_api; }
--- init
PaymentTest::given(A => {});
--- request
GET /v2/x/{A}/operations?merchantId=M1
--- response_body_filters eval
\&main::listed
--- response_body
1 authorize AUTHORIZED 1000



=== with payment_operations off there is no such resource, and nothing is kept
--- init
PaymentTest::given(A => { metadata => { order => '17' } });
--- request eval
["GET /api/payments/{A}/operations?merchantId=M1",
 "GET /api/payments/{A}?merchantId=M1"]
--- error_code eval
[404, 200]
--- response_body_like eval
['NOT_FOUND', '^((?!metadata).)*$']



=== a reference is used once for a payment, whatever the operation
--- http_config
    payment_operations on;
--- init
PaymentTest::given(A => {}, capture => { amount => 500, reference => 'r-1' });
PaymentTest::given(B => {});
--- request eval
[(map { "POST /api/payments/$_\n{\"merchantId\":\"M1\",\"reason\":\"r\","
        . "\"amount\":1,\"reference\":\"r-1\"}" }
  'capture/{A}', 'refund/{A}', 'void/{A}', 'capture/{B}'),
 "POST /api/payments/refund/{A}\n"
 . '{"merchantId":"M1","reason":"r","amount":1,"reference":"R-1"}']
--- error_code eval
[409, 409, 409, 200, 200]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["409 CAPTURE_CONFLICT reference, of A\n",
 "409 REFUND_CONFLICT reference, of A\n",
 "409 VOID_CONFLICT reference, of A\n",
 "B PARTIALLY_CAPTURED 1000 KRW, captured 1, refunded 0\n",
 "A PARTIALLY_REFUNDED 1000 KRW, captured 500, refunded 1\n"]



=== references are the same to the letter, and not otherwise
--- http_config
    payment_operations on;
--- init
PaymentTest::given(A => { amount => 100 });
--- request eval
my @all = ('r', 'r ', ' r', 'R', '\\uff52', '\\u00e9', 'e\\u0301',
           '\\ud83d\\ude00', '\\ud83d\\ude01');
[map { "POST /api/payments/capture/{A}\n"
       . qq({"merchantId":"M1","amount":1,"reference":"$_"}) } @all, @all]
--- error_code eval
[(200) x 9, (409) x 9]



=== the repeat of a request with a reference is a replay, and no second use
--- http_config
    payment_operations on;
--- init
PaymentTest::given(A => {});
--- request eval
[("POST /api/payments/capture/{A}\n"
  . '{"merchantId":"M1","amount":1,"reference":"r","idempotencyKey":"ops-r"}') x 2]
--- error_code eval
[200, 200]
--- response_body_filters eval
\&PaymentTest::same
--- response_body eval
["A PARTIALLY_CAPTURED 1000 KRW, captured 1, refunded 0\n", "same\n"]



=== without operations nobody knows of it
--- init
PaymentTest::given(A => {}, capture => { amount => 1, reference => 'r-1' });
--- request
POST /api/payments/capture/{A}
{"merchantId":"M1","amount":1,"reference":"r-1"}
--- error_code: 200
