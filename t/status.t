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
    my ($key, $amount) = @_;

    $amount //= 1;

    return PaymentTest::http('POST', '/api/payments/authorize',
        qq[{"merchantId":"M1","amount":$amount,"currency":"KRW",]
        . qq["idempotencyKey":"$key"}]);
}

# What an action moves, of these paths: "path +1" on a line each.

sub moved {
    my ($action, @paths) = @_;
    my %before = numbers(PaymentTest::status(), '');

    $action->();

    my %after = numbers(PaymentTest::status(), '');

    return join '', map {
        sprintf "%s %+d\n", $_, ($after{".$_"} // 0) - ($before{".$_"} // 0)
    } @paths;
}


# ... once it has: what another process counts comes a moment later.

sub comes_to_move {
    my ($wanted, @paths) = @_;
    my $moved;
    my %before = numbers(PaymentTest::status(), '');

    return sub {
        PaymentTest::await {
            my %after = numbers(PaymentTest::status(), '');
            $moved = join '', map {
                sprintf "%s %+d\n", $_,
                        ($after{".$_"} // 0) - ($before{".$_"} // 0)
            } @paths;
            $moved eq $wanted;
        };

        return $moved;
    };
}


sub malformed_lines {
    my $text = shift;
    my @wrong = grep { $_ ne '' && !/^# (?:HELP|TYPE) [a-zA-Z_:][\w:]* \S/
        && !/^[a-zA-Z_:][\w:]*(?:\{(?:[a-zA-Z_]\w*="(?:[^"\\]|\\.)*",?)*\})? (?:[-+]?[\d.]+(?:e[-+]?\d+)?|NaN|[-+]Inf)$/
        } split /\n/, $text;
    return 'wrong lines: ' . @wrong . "\n" . join "\n", @wrong[0 .. ($#wrong < 3 ? $#wrong : 3)];
}

sub misplaced_metrics {
    my (%type, %seen, @wrong, $last);
    for (split /\n/, shift) {
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
    return join(', ', @wrong[0 .. ($#wrong < 3 ? $#wrong : 3)]) . "\n";
}

sub broken_histograms {
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
    for (sort keys %last) {
        push @wrong, "$_ does not end in +Inf" if $last{$_}[0] ne '+Inf';
        push @wrong, "$_ is not its count" if $last{$_}[1] != ($count{$_} // -1);
    }
    return (keys(%last) ? 'histograms' : 'no histograms') . join(', ', '', @wrong) . "\n";
}

run_tests();

__DATA__

=== the breaker, in the words of the predecessor's page
--- config
    location = /circuit-breaker/kafka-publisher { payment_status breaker; }
--- request
GET /circuit-breaker/kafka-publisher
--- response_body_like
^\{"name":"kafka-publisher","failureRate":"-1\.0%","slowCallRate":"-1\.0%","state":"CLOSED","numberOfSuccessfulCalls":0,"numberOfFailedCalls":0,"numberOfSlowCalls":0,"numberOfSlowSuccessfulCalls":0,"numberOfSlowFailedCalls":0,"numberOfBufferedCalls":0,"numberOfNotPermittedCalls":0\}$



=== the breaker of an nginx that has none
--- http_config
    payment_outbox off;
--- config
    location = /circuit-breaker/kafka-publisher { payment_status breaker; }
--- request
GET /circuit-breaker/kafka-publisher
--- response_body_like eval
qr/"state":"DISABLED"/



=== JSON, by default and by name
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



=== HEAD, and methods that are none
--- config eval: $main::config
--- request eval
["HEAD /status", "POST /status\n{}", "DELETE /metrics"]
--- error_code eval
[200, 405, 405]
--- response_headers_like eval
["Content-Length: [1-9]\\d*", "Content-Type: .*", "Content-Type: .*"]
--- response_body_like eval
["^\$", ".", "."]



=== requests by operation and outcome
--- config eval: $main::config
--- request
GET /status
--- response_body_filters eval
sub {
    main::moved(sub {
        main::authorize('s3') for 1 .. 3;
        main::authorize('s3', 2);
        main::authorize('s3', 0);
        PaymentTest::given(A => {}, capture => {});
        my $id = PaymentTest::id_of('A');
        PaymentTest::http('POST', "/api/payments/capture/$id", '{"merchantId":"M1"}');
        PaymentTest::http('POST', "/api/payments/void/$id", '{"merchantId":"M1"}');
        PaymentTest::http('GET', "/api/payments/$id?merchantId=M1");
        PaymentTest::http('GET', "/api/payments/$id?merchantId=M2");
        PaymentTest::http('PUT', '/api/payments/authorize', '{}');
    }, map { "requests.$_" } qw( authorize.OK authorize.REPLAYED
        authorize.INVALID_REQUEST authorize.IDEMPOTENCY_KEY_REUSED
        authorize.METHOD_NOT_ALLOWED capture.OK capture.CAPTURE_CONFLICT
        void.VOID_CONFLICT get.OK get.NOT_FOUND ));
}
--- response_body
requests.authorize.OK +2
requests.authorize.REPLAYED +2
requests.authorize.INVALID_REQUEST +1
requests.authorize.IDEMPOTENCY_KEY_REUSED +1
requests.authorize.METHOD_NOT_ALLOWED +1
requests.capture.OK +1
requests.capture.CAPTURE_CONFLICT +1
requests.void.VOID_CONFLICT +1
requests.get.OK +1
requests.get.NOT_FOUND +1



=== rows and batches of a shard, and times
--- config eval: $main::config
--- request
GET /status
--- response_body_filters eval
sub {
    main::moved(sub { main::authorize("s4-$_") for 1 .. 4 },
                qw( shards.0.rows shards.0.batches shards.0.rollbacks
                    shards.0.connections_busy shards.0.queued
                    times.request.count times.commit.count ));
}
--- response_body
shards.0.rows +4
shards.0.batches +4
shards.0.rollbacks +0
shards.0.connections_busy +0
shards.0.queued +0
times.request.count +4
times.commit.count +4



=== the outbox: what was published, deleted, and is left
--- config eval: $main::config
--- request
GET /status
--- response_body_filters eval
sub {
    PaymentTest::await { PaymentTest::outbox_count() == 0 };
    my $moved = main::comes_to_move(
        "outbox.shards.0.published +3\noutbox.shards.0.deleted +3\n",
        map { "outbox.shards.0.$_" } qw( published deleted ));
    main::authorize("s5-$_") for 1 .. 3;
    my $said = $moved->();
    my $shard;
    PaymentTest::await {
        $shard = PaymentTest::status()->{outbox}{shards}[0];
        $shard->{backlog} == 0 && $shard->{in_flight} == 0;
    };
    return $said . "backlog $shard->{backlog}, in flight $shard->{in_flight}\n";
}
--- response_body
outbox.shards.0.published +3
outbox.shards.0.deleted +3
backlog 0, in flight 0



=== the lease's holder and epoch are those of the database
--- config eval: $main::config
--- request
GET /status
--- response_body_filters eval
sub {
    my ($shard, $outbox);
    PaymentTest::await {
        $outbox = PaymentTest::status()->{outbox};
        $shard = $outbox->{shards}[0];
        $shard->{lease_held};
    };
    my ($epoch, $uuid) = CORE::split ' ', PaymentTest::sql(
        "SELECT epoch, owner_uuid FROM outbox_lease WHERE name NOT LIKE 'node/%'");
    return ($shard->{lease_epoch} == $epoch ? 'its epoch' : 'another epoch') . ', '
           . (index($outbox->{owner}, $uuid) >= 0 ? 'its owner' : "$outbox->{owner}, not $uuid")
           . ', ' . ($outbox->{enabled} && $outbox->{up} ? 'up' : 'down') . "\n";
}
--- response_body
its epoch, its owner, up



=== what the database refuses is counted
--- http_config
    payment_shard main {
        server unix:$TEST_NGINX_PAYMENT_DB_LINK;
        database $TEST_NGINX_PAYMENT_DB_NAME;
        user $TEST_NGINX_PAYMENT_DB_USER;
        password $TEST_NGINX_PAYMENT_DB_PASSWORD;
    }
    payment_outbox off;
--- config eval: $main::config
--- post_setup_server_root
PaymentTest::database_away();
--- request
GET /status
--- response_body_filters eval
sub {
    my $moved = main::moved(sub { main::authorize("s7-$_") for 1 .. 2 },
        qw( requests.authorize.SERVICE_UNAVAILABLE shards.0.rows shards.0.connections_open ));
    my $failures = PaymentTest::await { PaymentTest::status()->{shards}[0]{connect_failures} };
    return $moved . ($failures > 0 ? 'connect failures' : 'no connect failures') . "\n";
}
--- response_body
requests.authorize.SERVICE_UNAVAILABLE +2
shards.0.rows +0
shards.0.connections_open +0
connect failures



=== Prometheus
--- config eval: $main::config
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*version=0\.0\.4.*
--- response_body_filters eval
\&main::malformed_lines
--- response_body
wrong lines: 0



=== every metric has a type, and one place
--- config eval: $main::config
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_filters eval
\&main::misplaced_metrics
--- response_body eval
"\n"



=== the breaker has Resilience4j's names
--- config eval: $main::config
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_like
resilience4j_circuitbreaker_state\{[^}]*state="closed"[^}]*\} 1



=== histograms are whole: buckets rise, and end in the count
--- config eval: $main::config
--- init
main::authorize("s8-$_") for 1 .. 5;
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_filters eval
\&main::broken_histograms
--- response_body
histograms



=== the same numbers in both forms
--- config eval: $main::config
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_filters eval
sub {
    main::authorize("s9");
    my (undef, undef, $text) = PaymentTest::http('GET', '/metrics');
    my ($metric) = $text =~ /^payment_requests_total\{operation="authorize",outcome="OK",status="200"\} (\d+)$/m;
    my $json = PaymentTest::status()->{requests}{authorize}{OK};
    return $metric == $json ? "equal\n" : "$metric, $json\n";
}
--- response_body
equal



=== no secret is in it
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
