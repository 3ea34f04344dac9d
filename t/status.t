# payment_status: what the module counts, as JSON and for Prometheus. Numbers
# are numbers, and they move when something happens.

use lib 't/lib';
use PaymentTest kafka => 1;
use Test::Nginx::Socket 'no_plan';

our $config = <<'END';
    location /api/payments { payment_api; }
    location = /status { payment_status; }
    location = /status.json { payment_status json; }
    location = /metrics { payment_status prometheus; }
END


# All numbers of a JSON document, by path.

sub numbers {
    my ($value, $path) = @_;

    return map { numbers($value->{$_}, "$path.$_") } keys %$value
        if ref $value eq 'HASH';
    return map { numbers($value->[$_], "$path.$_") } 0 .. $#$value
        if ref $value eq 'ARRAY';
    return ref $value || !defined $value || $value !~ /^-?\d/ ? ()
           : ($path => $value);
}

sub authorize {
    my ($key) = @_;

    return PaymentTest::http('POST', '/api/payments/authorize',
        qq[{"merchantId":"M1","amount":1,"currency":"KRW","idempotencyKey":"$key"}]);
}

run_tests();

__DATA__

=== TEST 1: JSON, by default and by name
--- config eval: $main::config
--- request eval
["GET /status", "GET /status.json"]
--- error_code eval
[200, 200]
--- response_headers eval
[("Content-Type: application/json") x 2]
--- response_body_filters eval
sub { ref JSON::PP::decode_json(shift) }
--- response_body eval
["HASH", "HASH"]



=== TEST 2: HEAD, and methods that are none
--- config eval: $main::config
--- request eval
["HEAD /status", "POST /status\n{}", "DELETE /metrics"]
--- error_code eval
[200, 405, 405]
--- response_headers_like eval
["Content-Length: [1-9]\\d*", "Content-Type: .*", "Content-Type: .*"]
--- response_body_like eval
["^\$", ".", "."]



=== TEST 3: an authorization is counted
--- config eval: $main::config
--- request
GET /status
--- response_body_filters eval
sub {
    my %before = main::numbers(PaymentTest::status(), '');
    main::authorize('s3') for 1 .. 3;
    my %after = main::numbers(PaymentTest::status(), '');
    my @moved = grep { ($after{$_} - ($before{$_} // 0)) == 1 } keys %after;
    my @replays = grep { ($after{$_} - ($before{$_} // 0)) == 2 } keys %after;
    return (@moved ? 'counted' : 'not counted') . ', replays '
           . (@replays ? 'counted' : 'not counted') . "\n";
}
--- response_body
counted, replays counted



=== TEST 4: the outbox tells what it published, and who holds the lease
--- config eval: $main::config
--- request
GET /status
--- response_body_filters eval
sub {
    my (undef, undef, $body) = main::authorize('s4');
    PaymentTest::events_in_kafka(JSON::PP::decode_json($body)->{paymentId}, 1);
    PaymentTest::await { PaymentTest::outbox_count() == 0 };
    my $told;
    PaymentTest::await {
        my %n = main::numbers(PaymentTest::status(), '');
        my ($published) = grep { /published$/ } CORE::sort keys %n;
        my ($backlog) = grep { /backlog/ } CORE::sort keys %n;
        my ($epoch) = grep { /epoch$/ } CORE::sort keys %n;
        $told = CORE::join ', ', map { !defined $_->[1] ? "no $_->[0]" : "$_->[0] $n{$_->[1]}" }
            ['published', $published], ['backlog', $backlog];
        $told .= defined $epoch && $n{$epoch} > 0 ? ', an epoch' : ', no epoch';
        $told =~ /published [1-9]\d*, backlog 0, an epoch/;
    };
    $told =~ s/published [1-9]\d*/published some/;
    return "$told\n";
}
--- response_body
published some, backlog 0, an epoch



=== TEST 5: Prometheus
--- config eval: $main::config
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*version=0\.0\.4.*
--- response_body_filters eval
sub {
    my $text = shift;
    my @wrong = grep { $_ ne '' && !/^# (?:HELP|TYPE) [a-zA-Z_:][\w:]* \S/
        && !/^[a-zA-Z_:][\w:]*(?:\{(?:[a-zA-Z_]\w*="(?:[^"\\]|\\.)*",?)*\})? (?:[-+]?[\d.]+(?:e[-+]?\d+)?|NaN|[-+]Inf)$/
        } CORE::split /\n/, $text;
    return 'wrong lines: ' . @wrong . "\n" . CORE::join "\n", @wrong[0 .. ($#wrong < 3 ? $#wrong : 3)];
}
--- response_body
wrong lines: 0



=== TEST 6: every metric has a type, and one place
--- config eval: $main::config
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_filters eval
sub {
    my (%type, %seen, @wrong, $last);
    for (CORE::split /\n/, shift) {
        if (/^# TYPE (\S+) (\S+)/) {
            push @wrong, "$1 twice" if $type{$1};
            $type{$1} = $2;
        } elsif (/^([a-zA-Z_:][\w:]*)/) {
            my $name = $1;
            my ($base) = $name =~ /^(.*)_(?:bucket|sum|count)$/;
            my $family = defined $base && $type{$base} ? $base : $name;
            push @wrong, "$name has no type" if !$type{$family};
            push @wrong, "$family in two places"
                if $seen{$family}++ && $last ne $family;
            $last = $family;
        }
    }
    return CORE::join(', ', @wrong[0 .. ($#wrong < 3 ? $#wrong : 3)]) . "\n";
}
--- response_body eval
"\n"



=== TEST 7: the breaker has Resilience4j's names
--- config eval: $main::config
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_like
resilience4j_circuitbreaker_state\{[^}]*state="closed"[^}]*\} 1



=== TEST 8: histograms are whole: buckets rise, and end in the count
--- config eval: $main::config
--- init
main::authorize("s8-$_") for 1 .. 5;
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_filters eval
sub {
    my $text = shift;
    my (%last, %count, @wrong);
    while ($text =~ /^(\w+)_(bucket|count)(?:\{(.*)\})? (\S+)$/mg) {
        my ($name, $what, $labels, $n) = ($1, $2, $3 // '', $4);
        my ($le) = $labels =~ /le="([^"]+)"/;
        $labels =~ s/,?le="[^"]*",?//;
        my $series = "$name\{$labels}";
        if ($what eq 'count') { $count{$series} = $n; next }
        push @wrong, "$series falls" if defined $last{$series} && $n < $last{$series}[1];
        $last{$series} = [$le, $n];
    }
    for (CORE::sort keys %last) {
        push @wrong, "$_ does not end in +Inf" if $last{$_}[0] ne '+Inf';
        push @wrong, "$_ is not its count" if $last{$_}[1] != ($count{$_} // -1);
    }
    return (keys(%last) ? 'histograms' : 'no histograms') . CORE::join(', ', '', @wrong) . "\n";
}
--- response_body
histograms



=== TEST 9: counters live through a reload of the configuration
--- config eval: $main::config
--- init
main::authorize('s9');
--- request
GET /status
--- response_body_filters eval
sub {
    my %n = main::numbers(JSON::PP::decode_json(shift), '');
    return (grep { $_ >= 1 } values %n) ? "counted\n" : "nothing counted\n";
}
--- response_body
counted



=== TEST 10: no secret is in it
--- config eval: $main::config
--- request eval
["GET /status", "GET /metrics"]
--- error_code eval
[200, 200]
--- response_headers_like eval
["Content-Type: .*", "Content-Type: .*"]
--- response_body_filters eval
sub { my $t = shift; index($t, 'password') < 0 ? 'none' : $t }
--- response_body eval
['none', 'none']
