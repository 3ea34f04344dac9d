# payment_status prometheus, read as strictly as Prometheus does; and that what
# names metrics (the dashboard, the alerts, the documentation) names these.
#
# status.t looks at the numbers; this file at the format and at the names.
# promtool, which tools/fetch.sh puts into build/bin, has its say too.
# t/unit/test_docs.py goes on from here: it holds the dashboard, the alerts and
# the documents to the table of docs/operations.md.

use lib 't/lib';
use PaymentTest kafka => 1;
use Test::Nginx::Socket 'no_plan';

use File::Temp;

our $config = <<'END';
    location /api/payments { payment_api; }
    location = /status { payment_status; }
    location = /metrics { payment_status prometheus; }
END

# each shard has a database of its own

our $two_shards = join '', map {
    my ($name, $slots, $where) = @$_;
    my $database = PaymentTest::database() . "_$slots";

    $database =~ tr/-/_/;
    PaymentTest::new_database($database);

    <<"END";
    payment_shard $name {
        slots $slots;
        server $where;
        database $database;
        user \$TEST_NGINX_PAYMENT_DB_USER;
        password \$TEST_NGINX_PAYMENT_DB_PASSWORD;
    }
END
} ['low.1', '0-511', 'unix:$TEST_NGINX_PAYMENT_DB_SOCKET'],
  ['high_2', '512-1023', '127.0.0.1:$TEST_NGINX_PAYMENT_DB_PORT'];


# Text format 0.0.4, without what it leaves open: HELP, TYPE, then samples;
# a family in one place; no series twice; counters end in _total and are not
# negative; a histogram's buckets rise in le and in count, and end in +Inf,
# which is its count. Returns the families, and what is wrong in words.

our $label = qr/[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"/;

sub parse {
    my ($text) = @_;
    my (%family, %seen, @wrong, $now);

    push @wrong, 'no newline at the end' if $text !~ /\n\z/;

    for my $line (split /\n/, $text) {

        if ($line =~ /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (\S.*)$/) {
            my ($name, $help) = ($1, $2);

            push @wrong, "$name twice" if $family{$name};
            push @wrong, "HELP of $name is no sentence"
                if $help !~ /^[A-Z0-9].*\.$/;
            $now = $family{$name} = { name => $name, help => $help,
                                      samples => {} };
            next;
        }

        if ($line =~ /^# TYPE (\S+) (counter|gauge|histogram)$/) {
            push @wrong, "TYPE of $1 without its HELP"
                if !$now || $now->{name} ne $1 || $now->{type};
            $now->{type} = $2;
            next;
        }

        if ($line !~ /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{($label(?:,$label)*)\})?
                      \ (-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?)$/x)
        {
            push @wrong, "not a line of the format: $line";
            next;
        }

        my ($name, $labels, $value) = ($1, $2 // '', $3);

        push @wrong, "$name\{$labels} twice" if $seen{"$name\{$labels}"}++;
        push @wrong, sample($now, $name, $labels, $value);
    }

    push @wrong, map { incomplete($_) } values %family;

    return \%family, @wrong;
}

sub sample {
    my ($family, $name, $labels, $value) = @_;
    my $type = $family->{type} // 'no type';
    my $rest = index($name, $family->{name}) == 0
               ? substr $name, length $family->{name} : 'another family';

    if ($type eq 'histogram') {
        return "$name in $family->{name}" if $rest !~ /^_(?:bucket|sum|count)$/;
        return bucket($family, $labels, $value) if $rest eq '_bucket';

        $family->{substr $rest, 1}{$labels} = $value;
        return ();
    }

    return "$name in $family->{name}" if $rest ne '';
    return "$name is a counter without _total"
        if $type eq 'counter' && $name !~ /_total$/;
    return "$name is a $type with _total"
        if $type ne 'counter' && $name =~ /_total$/;
    return "$name is negative" if $type eq 'counter' && $value < 0;

    $family->{samples}{$labels} = $value;
    return ();
}

sub bucket {
    my ($family, $labels, $value) = @_;

    $labels =~ s/,?le="(\+Inf|[0-9.]+)"// or return "a bucket without le";

    my $le = $1 eq '+Inf' ? 9**9**9 : $1;
    my $last = $family->{bucket}{$labels} // [-1, 0];

    $family->{bucket}{$labels} = [$le, $value];

    return "le of $family->{name} does not rise" if $le <= $last->[0];
    return "$family->{name} falls" if $value < $last->[1];
    return ();
}

sub incomplete {
    my ($family) = @_;
    my $name = $family->{name};

    return "$name has no type" if !$family->{type};

    if ($family->{type} ne 'histogram') {
        return %{$family->{samples}} ? () : "$name is empty";
    }

    return "$name is empty" if !$family->{bucket};

    return map {
        my ($le, $n) = @{$family->{bucket}{$_}};

        $le != 9**9**9 ? "$name\{$_} does not end in +Inf"
        : $n != ($family->{count}{$_} // -1) ? "$name\{$_} is not its count"
        : !defined $family->{sum}{$_} ? "$name\{$_} has no sum" : ();
    } sort keys %{$family->{bucket}};
}

sub wrong {
    my (undef, @wrong) = parse(shift);

    return @wrong ? join("\n", @wrong) . "\n" : "well-formed\n";
}

sub promtool {
    my ($text) = @_;

    local $ENV{PATH} = "build/bin:$ENV{PATH}";

    return "no promtool\n" if !grep { -x "$_/promtool" } split /:/, $ENV{PATH};

    my $metrics = File::Temp->new;
    print $metrics $text;
    $metrics->flush;

    my $said = `promtool check metrics <$metrics 2>&1`;

    return $? == 0 ? "fine\n" : $said;
}


# The table of docs/operations.md: name, type, labels and meaning of each
# family. The meaning begins with the words of HELP, and may go on.

sub documented {
    my (%row, %meaning);

    for (split /\n/, PaymentTest::read_file('docs/operations.md')) {
        my ($name, $type, $labels, $meaning)
            = /^\| `((?:payment|resilience4j|nginx|process)_\w+)` \| (\w+) \| ([^|]*)\| (.*) \|$/
            or next;

        $row{$name} = join ' ', $type, sort $labels =~ /`(\w+)`/g;
        $meaning{$name} = $meaning;
    }

    return (\%row, \%meaning);
}

sub told {
    my ($families) = parse(shift);

    return map {
        my $family = $families->{$_};
        my ($labels) = keys %{$family->{bucket} // $family->{samples}};

        ($_ => join ' ', $family->{type}, sort $labels =~ /(\w+)="/g);
    } keys %$families;
}

sub differences {
    my ($text) = @_;
    my (%told) = told($text);
    my ($families) = parse($text);
    my ($row, $meaning) = documented();

    # which comes with the Kafka client's first statistics, after 5 s: see
    # t/fault/test_outbox_gauges.py

    delete $row->{payment_outbox_broker_rtt_seconds};

    # which only the holder of a lease knows, and a node is one soon after it
    # began: see there, too

    for (qw( backlog oldest_event_age_seconds dead_letters overdue
             overdue_age_seconds ))
    {
        delete $row->{"payment_outbox_$_"} if !$told{"payment_outbox_$_"};
    }

    my %all = (%told, %$row);

    return join('', map {
        my ($is, $says) = map { $_ // 'nothing' } $told{$_}, $row->{$_};
        $is eq $says ? () : "$_: is $is, docs/operations.md says $says\n";
    } sort keys %all)
    . join('', map {
        my $help = $families->{$_}{help} =~ s/\.$//r;
        my $says = ($meaning->{$_} // 'nothing') =~ tr/`//dr;

        lc substr($says, 0, length $help) eq lc $help ? ()
        : "$_: HELP is '$help', docs/operations.md says '$says'\n";
    } sort keys %told) || "as documented\n";
}

# The labels' values, as Prometheus tells series apart by them.

sub shard_series {
    my ($families) = parse(shift);
    my %series = map { ($_ => 1) } map { keys %{$_->{samples}} }
                 grep { $_->{name} =~ /^payment_shard_/ } values %$families;

    return join '', map { "$_\n" } sort keys %series;
}

sub breaker_series {
    my ($families) = parse(shift);

    return join '', map {
        my $family = $_;
        map { "$family->{name} $_\n" }
        sort keys %{$family->{bucket} // $family->{samples}}
    } map { $families->{"resilience4j_circuitbreaker_$_"} // {} }
      qw( state failure_rate slow_call_rate buffered_calls slow_calls
          not_permitted_calls_total calls_seconds calls_seconds_max );
}

run_tests();

__DATA__

=== the format
--- config eval: $main::config
--- request
GET /metrics
--- response_headers
Content-Type: text/plain; version=0.0.4; charset=utf-8
Cache-Control: no-store
--- response_body_filters eval
\&main::wrong
--- response_body
well-formed



=== the format, after payments of every kind on two shards
--- http_config eval: $main::two_shards
--- config eval: $main::config
--- init
PaymentTest::given("A$_" => { merchantId => "M$_" }, capture => {},
                   refund => { amount => 1 }) for 1, 'x', 'abc', 77;
PaymentTest::given(V => {}, void => {});
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_filters eval
\&main::wrong
--- response_body
well-formed



=== promtool agrees
--- config eval: $main::config
--- init
PaymentTest::given(A => {}, capture => {});
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_filters eval
\&main::promtool
--- response_body_like
^fine$



=== every family is documented, and every documented one is there
--- http_config
    payment_trace_exporter http://127.0.0.1:4318;
--- config eval: $main::config
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_filters eval
\&main::differences
--- response_body
as documented



=== each shard has its own series
--- http_config eval: $main::two_shards
--- config eval: $main::config
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_filters eval
\&main::shard_series
--- response_body
shard="high_2"
shard="low.1"



=== Resilience4j's series, by their labels
--- config eval: $main::config
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_filters eval
\&main::breaker_series
--- response_body
resilience4j_circuitbreaker_state name="kafka-publisher",state="closed"
resilience4j_circuitbreaker_state name="kafka-publisher",state="disabled"
resilience4j_circuitbreaker_state name="kafka-publisher",state="forced_open"
resilience4j_circuitbreaker_state name="kafka-publisher",state="half_open"
resilience4j_circuitbreaker_state name="kafka-publisher",state="metrics_only"
resilience4j_circuitbreaker_state name="kafka-publisher",state="open"
resilience4j_circuitbreaker_failure_rate name="kafka-publisher"
resilience4j_circuitbreaker_slow_call_rate name="kafka-publisher"
resilience4j_circuitbreaker_buffered_calls name="kafka-publisher",kind="failed"
resilience4j_circuitbreaker_buffered_calls name="kafka-publisher",kind="successful"
resilience4j_circuitbreaker_slow_calls name="kafka-publisher",kind="failed"
resilience4j_circuitbreaker_slow_calls name="kafka-publisher",kind="successful"
resilience4j_circuitbreaker_not_permitted_calls_total name="kafka-publisher",kind="not_permitted"
resilience4j_circuitbreaker_calls_seconds name="kafka-publisher",kind="failed"
resilience4j_circuitbreaker_calls_seconds name="kafka-publisher",kind="ignored"
resilience4j_circuitbreaker_calls_seconds name="kafka-publisher",kind="successful"
resilience4j_circuitbreaker_calls_seconds_max name="kafka-publisher",kind="failed"
resilience4j_circuitbreaker_calls_seconds_max name="kafka-publisher",kind="ignored"
resilience4j_circuitbreaker_calls_seconds_max name="kafka-publisher",kind="successful"



=== undefined rates are -1, as Resilience4j has it
--- config eval: $main::config
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_like
resilience4j_circuitbreaker_failure_rate\{name="kafka-publisher"\} -1
(?s:.*)resilience4j_circuitbreaker_slow_call_rate\{name="kafka-publisher"\} -1



=== without an outbox, nothing is said of one
--- http_config
    payment_outbox off;
--- config eval: $main::config
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_filters eval
sub {
    my $text = shift;
    return main::wrong($text) . ($text =~ /outbox|resilience4j|_to_ack/ ? "told of it\n" : "silent\n");
}
--- response_body
well-formed
silent



=== the process, with what it has used; it is the only one here
--- config eval: $main::config
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_filters eval
sub {
    my ($families) = main::parse(shift);
    my $cpu = $families->{process_cpu_seconds_total}{samples};
    my $memory = $families->{process_resident_memory_bytes}{samples};
    my %there = map { /process="(\w+)"/ ? ($1 => 1) : () } keys %$cpu;

    return CORE::join('', map { "$_\n" } sort(keys %there),
                      map({ $_ > 1048576 ? 'some' : 'too little' }
                          values %$memory),
                      scalar keys %$cpu);
}
--- response_body
worker
some
1



=== without a breaker, nothing is said of one
--- http_config
    payment_kafka_brokers 127.0.0.1:$TEST_NGINX_PAYMENT_KAFKA_PORT;
    payment_kafka_topic $TEST_NGINX_PAYMENT_TOPIC;
    payment_breaker off;
--- config eval: $main::config
--- request
GET /metrics
--- response_headers_like
Content-Type: text/plain.*
--- response_body_filters eval
sub {
    my $text = shift;
    return main::wrong($text) . ($text =~ /resilience4j/ ? "told of it\n" : "silent\n")
           . ($text =~ /^payment_outbox_up 1$/m ? "outbox\n" : "no outbox\n");
}
--- response_body
well-formed
silent
outbox



=== the length that HEAD tells
--- config eval: $main::config
--- request
HEAD /metrics
--- response_headers_like
Content-Type: text/plain.*
Content-Length: [1-9]\d{3,}
--- response_body_like: ^$
