# GET .../?merchantId=..: a merchant's payments, with `payment_list on` and the
# index that sql/optional/merchant_index.sql makes.

use lib 't/lib';
use JSON::PP;
use PaymentTest;
use Test::Nginx::Socket 'no_plan';

our $index = PaymentTest::read_file('sql/optional/merchant_index.sql');

PaymentTest::sql($index);

# each payment in a few words, and whether others follow
sub listed {
    my ($body) = @_;
    my $json = JSON::PP::decode_json($body);

    return PaymentTest::told($body) if exists $json->{code};

    return join('', map {
        PaymentTest::Words::label_of($_->{paymentId})
        . " $_->{status} $_->{amount} $_->{currency}\n"
    } @{ $json->{payments} })
    . (exists $json->{nextCursor} ? "more\n" : '');
}

# the same, without what is the same in all payments of a block
sub labels {
    my $text = listed(@_);

    $text =~ s/ AUTHORIZED \d+ KRW\n/ /g;
    return $text;
}

# payments of a merchant, the oldest first
sub authorize {
    my ($merchant, @labels) = @_;

    PaymentTest::given($_ => { merchantId => $merchant }) for @labels;
}

# {name} is the cursor that the answer to this query has
sub cursor {
    my ($name, $query) = @_;
    my (undef, undef, $body) = PaymentTest::http('GET',
                                                 "/api/payments/?$query");

    PaymentTest::remember($name => JSON::PP::decode_json($body)->{nextCursor}
                                   // 'none');
}

sub created {
    my ($label, $ms) = @_;
    my $id = PaymentTest::id_of($label);
    my $text = PaymentTest::sql("SELECT DATE_FORMAT(created_at
                                   + INTERVAL $ms * 1000 MICROSECOND,
                                   '%Y-%m-%dT%H:%i:%s.%f')
                                 FROM payment
                                 WHERE id = UNHEX(REPLACE('$id', '-', ''))");

    $text =~ s/000\n\z/Z/;
    return $text;
}

add_block_preprocessor(sub {
    my $block = shift;

    $block->set_value('http_config',
                      "payment_list on;\n" . ($block->http_config // ''));
});

no_shuffle();
run_tests();

__DATA__

=== the newest first, as they are now
--- init
main::authorize('list-1', 'A' .. 'C');
PaymentTest::given(D => { merchantId => 'list-1', currency => 'USD' },
                   capture => { amount => 400 });
PaymentTest::given(E => { merchantId => 'list-1' }, void => {});
--- request eval
["GET /api/payments/?merchantId=list-1", "GET /api/payments?merchantId=list-1"]
--- error_code eval
[200, 200]
--- response_body_filters eval
\&main::listed
--- response_body eval
[("E VOIDED 1000 KRW\nD PARTIALLY_CAPTURED 1000 USD\n"
  . "C AUTHORIZED 1000 KRW\nB AUTHORIZED 1000 KRW\nA AUTHORIZED 1000 KRW\n") x 2]



=== to the letter
--- init
PaymentTest::given(A => { merchantId => 'list "2"', metadata => { a => 'b' } });
--- request
GET /api/payments/?merchantId=list%20%222%22
--- response_body_like chomp
^\{"merchantId":"list \\"2\\"","payments":\[\{"paymentId":"[-0-9a-f]{36}","status":"AUTHORIZED","amount":1000,"currency":"KRW","capturedAmount":0,"refundedAmount":0,"createdAt":"[^"]+Z","version":1,"updatedAt":"[^"]+Z"\}\]\}$



=== with the time when authorizations expire
--- config
    location /api/payments {
        payment_api;
        payment_list on;
        payment_authorization_lifetime 7d;
    }
--- init
main::authorize('list-3', 'A');
--- request eval
["GET /api/payments/?merchantId=list-3",
 "GET /api/payments/?merchantId=list-3&status=AUTHORIZED",
 "GET /api/payments/?merchantId=list-3&status=VOIDED"]
--- error_code eval
[200, 200, 200]
--- response_body_like eval
[('"createdAt":"[^"]+Z","expiresAt":"[^"]+Z","version":1,') x 2, '"payments":\[\]\}$']



=== a merchant without payments
--- request
GET /api/payments/?merchantId=list-nobody
--- response_body chomp
{"merchantId":"list-nobody","payments":[]}



=== page after page, whatever is made meanwhile
--- init
main::authorize('list-5', 'A' .. 'E');
main::cursor(first => 'merchantId=list-5&limit=2');
main::authorize('list-5', 'F');
main::cursor(second => 'merchantId=list-5&limit=2&cursor='
                       . PaymentTest::id_of('first'));
main::authorize('list-5', 'G');
--- request eval
["GET /api/payments/?merchantId=list-5&limit=2&cursor={first}",
 "GET /api/payments/?cursor={second}&merchantId=list-5&limit=2",
 "GET /api/payments/?merchantId=list-5&cursor={first}&limit=3",
 "GET /api/payments/?merchantId=list-5&limit=7",
 "GET /api/payments/?merchantId=list-5&limit=6"]
--- error_code eval
[(200) x 5]
--- response_body_filters eval
\&main::labels
--- response_body eval
["C B more\n", "A ", "C B A ", "G F E D C B A ", "G F E D C B more\n"]



=== twenty at a time, if nothing else is said
--- init
main::authorize('list-6', map { "p$_" } 1 .. 21);
main::cursor(next => 'merchantId=list-6');
--- request eval
["GET /api/payments/?merchantId=list-6",
 "GET /api/payments/?merchantId=list-6&cursor={next}",
 "GET /api/payments/?merchantId=list-6&limit=100"]
--- error_code eval
[200, 200, 200]
--- response_body_filters eval
\&main::labels
--- response_body eval
[CORE::join(' ', map { "p$_" } CORE::reverse(2 .. 21)) . " more\n", "p1 ",
 CORE::join(' ', map { "p$_" } CORE::reverse(1 .. 21)) . " "]



=== by status, one or several
--- init
main::authorize('list-7', 'A');
PaymentTest::given(B => { merchantId => 'list-7' }, void => {});
PaymentTest::given(C => { merchantId => 'list-7' }, capture => {});
PaymentTest::given(D => { merchantId => 'list-7' }, capture => { amount => 1 });
PaymentTest::given(E => { merchantId => 'list-7' }, capture => {}, refund => {});
PaymentTest::given(F => { merchantId => 'list-7' }, capture => {},
                   refund => { amount => 1 });
--- request eval
[map { "GET /api/payments/?merchantId=list-7&status=$_" }
 'AUTHORIZED', 'VOIDED', 'CAPTURED', 'PARTIALLY_CAPTURED', 'REFUNDED',
 'PARTIALLY_REFUNDED', 'VOIDED,CAPTURED', 'CAPTURED%2CVOIDED,CAPTURED']
--- error_code eval
[(200) x 8]
--- response_body_filters eval
sub { my $text = main::listed(@_); $text =~ s/ [A-Z_]+ 1000 KRW\n/ /g; $text }
--- response_body eval
['A ', 'B ', 'C ', 'D ', 'E ', 'F ', 'C B ', 'C B ']



=== by currency and amount
--- init
PaymentTest::given("K$_" => { merchantId => 'list-8', amount => $_ })
    for 10, 20, 30;
PaymentTest::given(U => { merchantId => 'list-8', amount => 20,
                          currency => 'USD' });
--- request eval
[map { "GET /api/payments/?merchantId=list-8&currency=$_" }
 'KRW', 'USD', 'EUR', 'KRW&amountMin=20', 'KRW&amountMax=20',
 'KRW&amountMin=20&amountMax=20', 'KRW&amountMin=21&amountMax=29',
 'KRW&amountMax=9007199254740991&status=AUTHORIZED']
--- error_code eval
[(200) x 8]
--- response_body_filters eval
sub { my $text = main::listed(@_); $text =~ s/ [A-Z_]+ \d+ [A-Z]+\n/ /g; $text }
--- response_body eval
['K30 K20 K10 ', 'U ', '', 'K30 K20 ', 'K20 K10 ', 'K20 ', '', 'K30 K20 K10 ']



=== by time: from one on, and before another
--- init
main::authorize('list-9', 'A', 'B', 'C');
PaymentTest::remember(b => main::created('B', 0));
PaymentTest::remember(later => main::created('B', 1));
PaymentTest::remember(hour => main::created('B', 3600 * 1000));
main::cursor(next => 'merchantId=list-9&limit=1&createdTo='
                     . PaymentTest::id_of('hour'));
--- request eval
[map { "GET /api/payments/?merchantId=list-9&$_" }
 'createdFrom={b}', 'createdTo={b}', 'createdFrom={later}',
 'createdTo={later}', 'createdFrom={b}&createdTo={later}',
 'createdFrom=2026-01-01T00:00:00Z&createdTo=9999-12-31T23:59:59.999Z',
 'createdTo=2026-01-01T00:00:00Z', 'createdFrom={hour}',
 'createdTo={hour}&cursor={next}']
--- error_code eval
[(200) x 9]
--- response_body_filters eval
\&main::labels
--- response_body eval
['C B ', 'A ', 'C ', 'B A ', 'B ', 'C B A ', '', '', 'B A ']



=== a filter that nothing fits looks at so many rows at most, and goes on
--- init
main::authorize('list-10', 'A');
PaymentTest::given(V => { merchantId => 'list-10' }, void => {});
PaymentTest::sql(q(
    INSERT INTO payment (id, merchant_id, currency, status, amount, created_at,
                         updated_at)
    SELECT UNHEX(CONCAT('ff', LPAD(HEX(seq), 30, '0'))), 'list-10', 'KRW',
           'CAPTURED', 7, NOW(), NOW() FROM seq_1_to_256));
PaymentTest::sql("UPDATE payment SET id = UNHEX(CONCAT(
                      '019a', LPAD(HEX(ORD(SUBSTR(id, 15)) * 256
                                       + ORD(SUBSTR(id, 16))), 28, '0')))
                  WHERE merchant_id = 'list-10' AND amount = 7");
main::cursor(first => 'merchantId=list-10&status=REFUNDED');
main::cursor(second => 'merchantId=list-10&status=REFUNDED&cursor='
                       . PaymentTest::id_of('first'));
main::cursor(third => 'merchantId=list-10&status=REFUNDED&cursor='
                      . PaymentTest::id_of('second'));
main::cursor(voided => 'merchantId=list-10&status=VOIDED');
--- request eval
["GET /api/payments/?merchantId=list-10&status=REFUNDED",
 "GET /api/payments/?merchantId=list-10&status=REFUNDED&cursor={first}",
 "GET /api/payments/?merchantId=list-10&status=REFUNDED&cursor={second}",
 "GET /api/payments/?merchantId=list-10&status=REFUNDED&cursor={third}",
 "GET /api/payments/?merchantId=list-10&status=VOIDED",
 "GET /api/payments/?merchantId=list-10&currency=USD&amountMax=1&limit=100"]
--- error_code eval
[200, 200, 200, 400, 200, 200]
--- response_body_filters eval
\&main::listed
--- response_body eval
["more\n", "more\n", '', "400 INVALID_REQUEST cursor\n",
 "V VOIDED 1000 KRW\nmore\n", "more\n"]



=== no page walks the payments of a merchant, whatever is asked for
--- init
main::cursor(warm => 'merchantId=list-10&status=REFUNDED');
my $rows = sub {
    my ($n) = PaymentTest::sql("SELECT SUM(variable_value)
        FROM information_schema.global_status
        WHERE variable_name LIKE 'Handler_read%'
          AND variable_name NOT LIKE '%rnd%'") =~ /(\d+)/;
    return $n;
};
my %most = ('' => 200, '&limit=100' => 400, '&status=REFUNDED' => 4200,
            '&currency=EUR&amountMin=5&limit=100' => 4200);
my $idle = $rows->();
$idle = $rows->() - $idle;
for my $query (sort keys %most) {
    my $before = $rows->();
    main::cursor(x => "merchantId=list-10$query");
    my $n = $rows->() - $before - $idle;
    die "$query: $n rows\n" if $n > $most{$query} || $n < 10;
}
--- request
GET /api/payments/?merchantId=list-10&limit=1
--- response_body_filters eval
sub { main::listed(@_) =~ s/^\S+/P/r }
--- response_body
P VOIDED 1000 KRW
more



=== a cursor is good for its own list
--- init
main::authorize('list-12', 'A' .. 'C');
main::authorize('list-13', 'X' .. 'Z');
main::cursor(plain => 'merchantId=list-12&limit=1');
main::cursor(status => 'merchantId=list-12&limit=1&status=AUTHORIZED,VOIDED');
main::cursor(amount => 'merchantId=list-12&limit=1&currency=KRW&amountMin=1');
--- request eval
[map { "GET /api/payments/?$_" }
 'merchantId=list-12&cursor={plain}',
 'merchantId=list-13&cursor={plain}',
 'merchantId=list-12&cursor={plain}&status=AUTHORIZED',
 'merchantId=list-12&cursor={plain}&createdFrom=2026-01-01T00:00:00Z',
 'merchantId=list-12&cursor={plain}&createdTo=2036-01-01T00:00:00Z',
 'merchantId=list-12&cursor={plain}&currency=KRW',
 'merchantId=list-12&cursor={status}&status=VOIDED,AUTHORIZED',
 'merchantId=list-12&cursor={status}&status=AUTHORIZED',
 'merchantId=list-12&cursor={amount}&currency=KRW',
 'merchantId=list-12&cursor={amount}&currency=KRW&amountMin=2',
 'merchantId=list-12&cursor={amount}&currency=KRW&amountMax=2']
--- error_code eval
[200, (400) x 5, 200, 400, 200, 400, 400]
--- response_body_filters eval
\&main::labels
--- response_body eval
my $refused = "400 INVALID_REQUEST cursor\n";
['B A ', ($refused) x 5, 'B A ', $refused, 'B A ', ($refused) x 2]



=== it says why
--- init
main::authorize('list-14', 'A', 'B');
main::cursor(next => 'merchantId=list-14&limit=1');
--- request
GET /api/payments/?merchantId=list-15&cursor={next}
--- error_code: 400
--- response_body_like chomp
"detail":"cursor is of another list: of another merchant, or with other filters"



=== whoever makes a cursor up finds none but their own payments
--- init
main::authorize('list-16', 'A', 'B');
main::authorize('list-17', 'X', 'Y');
main::cursor(mine => 'merchantId=list-16&limit=1');
my $mine = PaymentTest::id_of('mine');
require MIME::Base64;
my $bytes = MIME::Base64::decode_base64url($mine);
(my $id = PaymentTest::id_of('Y')) =~ s/-//g;
PaymentTest::remember(made => MIME::Base64::encode_base64url(
                          pack('H*', $id) . substr $bytes, 16));
PaymentTest::remember(high => MIME::Base64::encode_base64url(
                          "\xff" x 16 . substr $bytes, 16));
--- request eval
["GET /api/payments/?merchantId=list-16&cursor={made}",
 "GET /api/payments/?merchantId=list-16&cursor={high}",
 "GET /api/payments/?merchantId=list-17&cursor={made}"]
--- error_code eval
[200, 200, 400]
--- response_body_filters eval
\&main::labels
--- response_body eval
['B A ', 'B A ', "400 INVALID_REQUEST cursor\n"]



=== arguments that are none
--- request eval
[map { "GET /api/payments/?merchantId=list-18&$_" }
 (map { "status=$_" } '', 'captured', 'NONE', 'CAPTURED,', ',CAPTURED',
  'CAPTURED,,VOIDED', 'CAPTURED%20', '%00'),
 (map { "currency=$_" } '', 'krw', 'XAU', 'KRWUSD', '%FF%FF%FF'),
 (map { "currency=KRW&amountMin=$_" } '', '0', '-1', '1.0', '1e3', '01', '+1',
  '9007199254740992', '99999999999999999999999999'),
 'currency=KRW&amountMax=x', 'amountMin=1', 'amountMax=1',
 'currency=KRW&amountMin=2&amountMax=1',
 (map { "createdFrom=$_" } '', '2026', '2026-11-22', '2026-11-22T18:12:46',
  '2026-11-22T18:12Z', '2026-11-22T18:12:46.Z', '2026-11-22T18:12:46.1234Z',
  '2026-11-22t18:12:46z', '2026-11-22T18:12:46%2B09:00', '2026-02-29T00:00:00Z',
  '2026-13-01T00:00:00Z', '2026-01-01T24:00:00Z', '2026-01-01T00:00:60Z',
  '1969-12-31T23:59:59Z', '2026-11-22T18:12:46ZZ', '1764000000'),
 'createdTo=x', 'createdFrom=2026-01-01T00:00:00Z&createdTo=2026-01-01T00:00:00Z',
 (map { "limit=$_" } '', '0', '101', '-1', '1.5', 'x', '020',
  '18446744073709551617'),
 (map { "cursor=$_" } '', '20', 'x' x 31, 'x' x 33, '=' x 32, '%00' x 32,
  'A' x 32)]
--- error_code eval
[(400) x 59]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[map { my ($name, $n) = split /:/; ("400 INVALID_REQUEST $name\n") x $n }
 qw( status:8 currency:5 amountMin:9 amountMax:1 currency:2 amountMin:1
     createdFrom:16 createdTo:1 createdFrom:1 limit:8 cursor:7 )]



=== an argument given twice, in whatever escapes, or with a broken one
--- request eval
[map { my ($name, $value) = split /:/; my $u = sprintf '%%%02x', ord $name;
       my $escaped = $name =~ s/^./$u/r;
       map { "GET /api/payments/?merchantId=list-19&currency=KRW&$_" =~
             s/currency=KRW&(?=.*(?:currency|%63urrency))//r }
       "$name=$value&$name=$value", "$name=$value&$escaped=$value",
       "$name=%4" }
 qw( status:CAPTURED currency:USD amountMin:1 amountMax:1
     createdFrom:2026-01-01T00%3A00%3A00Z createdTo:2026-01-01T00%3A00%3A00Z
     limit:1 cursor:x )]
--- error_code eval
[(400) x 24]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[map { ("400 INVALID_REQUEST $_\n") x 3 }
 qw( status currency amountMin amountMax createdFrom createdTo limit cursor )]



=== an argument that is written in escapes
--- init
main::authorize('list-20', 'A', 'B');
--- request
GET /api/payments/?merchant%49d=list%2D20&%6cimit=%31&%73tatus=%41UTHORIZED
--- response_body_filters eval
\&main::labels
--- response_body
B more



=== without a merchant, or with two, or with one that cannot be
--- request eval
["GET /api/payments/", "GET /api/payments?limit=1",
 "GET /api/payments/?merchantId=list-1&merchantId=list-2",
 "GET /api/payments/?merchantId=", "GET /api/payments/?merchantId=%00"]
--- error_code eval
[(400) x 5]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("400 INVALID_REQUEST merchantId\n") x 5]



=== with payment_merchant, of the merchant that it says and nobody else
--- config
    location /api/payments { payment_api; }
    location /known {
        payment_api;
        payment_list on;
        payment_merchant $http_x_merchant;
    }
--- init
main::authorize('list-22', 'A');
main::authorize('list-23', 'X');
--- request eval
["GET /known/", "GET /known/?merchantId=list-22", "GET /known",
 "GET /known/?merchantId=list-22", "GET /known/?merchantId=list-22&limit=0",
 "GET /known/"]
--- more_headers eval
["X-Merchant: list-22", "X-Merchant: list-22", "X-Merchant: list-23",
 "X-Merchant: list-23", "X-Merchant: list-23", "X: y"]
--- error_code eval
[200, 200, 200, 403, 403, 401]
--- response_body_filters eval
\&main::labels
--- response_body eval
['A ', 'A ', 'X ', ("403 MERCHANT_MISMATCH merchantId\n") x 2,
 "401 UNAUTHORIZED\n"]



=== a key is looked up as before, however badly it is given
--- init
PaymentTest::given(A => { merchantId => 'list-24', idempotencyKey => 'l24-1' });
--- request eval
["GET /api/payments/?merchantId=list-24&idempotencyKey=l24-1&limit=1",
 "GET /api/payments/?merchantId=list-24",
 "GET /api/payments/?merchantId=list-24&idempotencyKey=l24-2",
 "GET /api/payments/?merchantId=list-24&idempotencyKey=",
 "GET /api/payments/?merchantId=list-24&idempotencyKey=x&idempotencyKey=x",
 "GET /api/payments/?merchantId=list-24&idempotency%4bey=%"]
--- more_headers eval
['', 'Idempotency-Key: "l24-1"', '', '', '', '']
--- error_code eval
[200, 200, 404, 400, 400, 400]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
my $found = "A AUTHORIZED 1000 KRW, captured 0, refunded 0"
            . "; authorize 1: AUTHORIZED, captured 0, refunded 0\n";
[$found, $found, "404 NOT_FOUND\n", ("400 INVALID_REQUEST idempotencyKey\n") x 3]



=== off, it is a look-up without a key
--- config
    location /api/payments { payment_api; payment_list off; }
--- request
GET /api/payments/?merchantId=list-1&limit=0
--- error_code: 400
--- response_body_filters eval
\&PaymentTest::told
--- response_body
400 INVALID_REQUEST idempotencyKey



=== HEAD, and other methods
--- init
main::authorize('list-26', 'A');
--- request eval
["HEAD /api/payments/?merchantId=list-26",
 "HEAD /api/payments/?merchantId=list-26&limit=0",
 "POST /api/payments/?merchantId=list-26\n{}",
 "DELETE /api/payments?merchantId=list-26"]
--- error_code eval
[200, 400, 405, 405]
--- response_headers_like eval
["Content-Type: application/json\nContent-Length: [1-9]\\d+",
 "Content-Type: application/problem\\+json",
 ("Allow: GET, HEAD\nContent-Type: application/problem\\+json") x 2]
--- response_body_like eval
['^$', '^$', ('METHOD_NOT_ALLOWED') x 2]



=== no answer is stored on the way
--- request
GET /api/payments/?merchantId=list-1
--- response_headers
Cache-Control: no-store



=== several lists at once, each its own
--- init
main::authorize("list-28-$_", "A$_", "B$_") for 1 .. 9;
my @answers = map { @$_ } PaymentTest::http_at_once(30, 'GET',
    '/api/payments/?merchantId=list-28-3&limit=1&status=AUTHORIZED');
my $id = PaymentTest::id_of('B3');
die "answers\n" if 30 != grep { /"paymentId":"$id"/ && /nextCursor/ } @answers;
--- request eval
[map { "GET /api/payments/?merchantId=list-28-$_" } 1 .. 9]
--- error_code eval
[(200) x 9]
--- response_body_filters eval
\&main::labels
--- response_body eval
[map { "B$_ A$_ " } 1 .. 9]



=== a location without a prefix
--- config
    location /api/payments { payment_api; }
    location ~ ^/v2 { payment_api; payment_list on; }
--- init
main::authorize('list-29', 'A');
--- request eval
["GET /v2/payments/?merchantId=list-29", "GET /v2/?merchantId=list-29"]
--- error_code eval
[200, 200]
--- response_body_filters eval
\&main::labels
--- response_body eval
[('A ') x 2]



=== it is counted, and logged, by the name of list
--- http_config
    log_format payment '[$payment_operation $payment_id $payment_error]';
--- config
    access_log logs/access.log payment;
    location /api/payments { payment_api; }
    location = /metrics { payment_status prometheus; }
--- init
main::authorize('list-30', 'A');
PaymentTest::http('GET', "/api/payments/?merchantId=list-30&limit=$_")
    for 1, 0;
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_like eval
qr/operation="list",outcome="INVALID_REQUEST"[^\n]* 1\n/
--- access_log eval
[qr/^\[list - -\]$/, qr/^\[list - INVALID_REQUEST\]$/]



=== without the index it says so
--- init
PaymentTest::sql('ALTER TABLE payment DROP INDEX payment_merchant');
--- request
GET /api/payments/?merchantId=list-1
--- error_code: 503
--- response_body_like chomp
"detail":"payments cannot be listed: the database has no index for it"
--- error_log eval
qr/payments cannot be listed, there is no index payment_merchant: run "ngx-payment-migrate add merchant_index payment/



=== and payments go on
--- request eval
["GET /api/payments/?merchantId=list-1",
 "GET /api/payments/?merchantId=list-1&status=VOIDED",
 'POST /api/payments/authorize
{"merchantId":"list-1","amount":1,"currency":"KRW","idempotencyKey":"l31"}']
--- error_code eval
[503, 503, 200]
--- response_body_like eval
[('"detail":"payments cannot be listed: the database has no index for it"') x 2,
 'AUTHORIZED']



=== and goes on when the index is there
--- init
PaymentTest::sql('ALTER TABLE payment DROP INDEX IF EXISTS payment_merchant');
my ($code) = PaymentTest::http('GET', '/api/payments/?merchantId=list-16');
die "answer: $code\n" if $code != 503;
PaymentTest::sql($main::index);
--- request
GET /api/payments/?merchantId=list-16
--- response_body_filters eval
sub { scalar(() = main::listed(@_) =~ /\n/g) . " payments\n" }
--- response_body
2 payments
--- error_log
payments cannot be listed
