package NginxRunner::Check;

# What a block expects against what came: one sub a section. Each expectation
# is one test, and every line of error_log is an expectation. With several
# requests in a block, a section holds an array with one entry for each.

use strict;
use warnings;

use Exporter qw( import );
use JSON::PP;
use Test::More ();

use NginxRunner::Settings;
use NginxRunner::Util;

our @EXPORT = qw( add_response_body_check check_response check_logs
                  note_log_position );

my %path = servroot_paths();
my @body_checks;
my $log_read = 0;           # how much of error.log earlier checks have seen
my $requests_logged = 0;    # lines of access.log before the request
my $requests_sent = 0;


sub add_response_body_check {
    push @body_checks, shift;
}


# $at says which request of the block this is: index (from 0), repeat (from
# 0), and many, true when the sections must be arrays.

sub check_response {
    my ($block, $res, $at) = @_;

    check_code($block, $res, $at);
    check_raw_headers($block, $res, $at);
    check_headers($block, $res, $at);

    $res->{body} = filter_body($block, $res->{body}, $at);

    check_body($block, $res, $at);

    $_->($block, $res->{body}, $at->{index}, $at->{repeat}, 0)
        for @body_checks;
}


sub value_for_request {
    my ($block, $section, $at) = @_;
    my $value = $block->$section;

    return ref $value eq 'ARRAY' ? $value->[$at->{index}] : $value
        if !$at->{many} || ref $value eq 'ARRAY';

    bail_out($block->name, " - $section: many requests need an array of ",
             "expectations\n");
}


sub check_code {
    my ($block, $res, $at) = @_;
    my $name = $block->name . ' - status code ok';

    if (defined $block->error_code_like) {
        my $pattern = value_for_request($block, 'error_code_like', $at);
        Test::More::like($res->{code}, qr/$pattern/sm, $name);

    } else {
        my $code = defined $block->error_code
                   ? value_for_request($block, 'error_code', $at) : 200;
        Test::More::is($res->{code}, $code, $name);
    }
}


sub check_raw_headers {
    my ($block, $res, $at) = @_;

    if (defined $block->raw_response_headers_like) {
        my $pattern = value_for_request($block, 'raw_response_headers_like',
                                        $at);
        Test::More::like($res->{raw_headers}, qr/$pattern/s,
                         $block->name . ' - raw resp headers like');
    }

    if (defined $block->raw_response_headers_unlike) {
        my $pattern = value_for_request($block, 'raw_response_headers_unlike',
                                        $at);
        Test::More::unlike($res->{raw_headers}, qr/$pattern/s,
                           $block->name . ' - raw resp headers unlike');
    }
}


sub check_headers {
    my ($block, $res, $at) = @_;
    my $name = $block->name;
    my $like = !defined $block->response_headers;
    my $section = $like ? 'response_headers_like' : 'response_headers';

    return if !defined $block->$section;

    my $text = value_for_request($block, $section, $at) // '';

    for my $line (split /\n/, $text) {
        $line =~ s/^\s+|\s+$//g;
        next if $line eq '';

        if (!$like && $line =~ s/^!\s*//) {
            Test::More::unlike($res->{raw_headers}, qr/^\s*\Q$line\E\s*:/mi,
                               "$name - header $line not present");
            next;
        }

        my ($key, $expected) = split /\s*:\s*/, $line, 2;
        my $got = join ', ', @{ $res->{headers}{lc $key} // [] };

        $expected //= '';

        if ($like) {
            Test::More::like($got, qr/^$expected$/,
                             "$name - header $key like ok");

        } else {
            Test::More::is($got, with_ports($expected),
                           "$name - header $key ok");
        }
    }
}


sub with_ports {
    my ($text) = @_;

    $text =~ s/\$ServerPortForClient\b/$set{client_port}/g;
    $text =~ s/\$ServerPort\b/$set{port}/g;

    return $text;
}


my %named_filter = (
    uc          => sub { uc $_[0] },
    lc          => sub { lc $_[0] },
    ucfirst     => sub { ucfirst $_[0] },
    lcfirst     => sub { lcfirst $_[0] },
    length      => sub { length $_[0] },
    md5_hex     => sub { require Digest::MD5; Digest::MD5::md5_hex($_[0]) },
    sha1_hex    => sub { require Digest::SHA; Digest::SHA::sha1_hex($_[0]) },
);


# Names, subs, or a list of them; a list of lists has one list a request.

sub filter_body {
    my ($block, $body, $at) = @_;
    my $filters = $block->response_body_filters;

    return $body if !defined $filters;

    $filters = [split ' ', $filters] if !ref $filters;
    $filters = [$filters] if ref $filters ne 'ARRAY';

    if (ref $filters->[0] eq 'ARRAY') {
        $filters = $filters->[$at->{index}]
            // bail_out($block->name, " - response_body_filters lacks ",
                        "request $at->{index}\n");
    }

    for my $filter (@$filters) {
        my $code = ref $filter eq 'CODE' ? $filter : $named_filter{$filter}
            // bail_out($block->name, " - unknown filter $filter in ",
                        "response_body_filters\n");

        $body = $code->($body);
    }

    return $body;
}


sub check_body {
    my ($block, $res, $at) = @_;
    my $name = $block->name;
    my $what = "response is expected (repeated req $at->{repeat}, "
               . "req $at->{index})";

    if (defined $block->response_body) {
        my $expected = value_for_request($block, 'response_body', $at);
        my $got = $res->{body};

        if (defined $block->response_body_json_sort) {
            my $json = JSON::PP->new->canonical->loose;
            my $value = eval { $json->decode($got) };
            $got = $json->encode($value) . "\n" if defined $value;
        }

        return Test::More::like($got, $expected,
                                "$name - response_body - like - $what")
            if ref $expected;

        $expected = expand_env(with_ports($expected), $name)
            if defined $expected;

        return is_text($got, $expected, "$name - response_body - $what");
    }

    if (defined $block->response_body_like) {
        my $pattern = value_for_request($block, 'response_body_like', $at);

        $pattern = with_ports($pattern);
        return Test::More::like($res->{body}, qr/$pattern/s,
                                "$name - response_body_like - $what");
    }

    if (defined $block->response_body_unlike) {
        my $pattern = value_for_request($block, 'response_body_unlike', $at);

        $pattern = with_ports($pattern);
        return Test::More::unlike($res->{body}, qr/$pattern/s,
                                  "$name - response_body_unlike - $what");
    }
}


# Text that differs is shown from where it differs, when it is long.

sub is_text {
    my ($got, $expected, $name) = @_;

    return Test::More::is($got, $expected, $name)
        if $set{no_long_string} || !defined $got || !defined $expected
           || $got eq $expected || length $got < 200 && length $expected < 200;

    my $same = 0;

    $same++ while $same < length $got && $same < length $expected
                  && substr($got, $same, 1) eq substr($expected, $same, 1);

    my $from = $same > 30 ? $same - 30 : 0;

    Test::More::ok(0, $name);
    Test::More::diag("differs at byte $same\n     got: ",
                     printable(substr $got, $from, 120),
                     "\nexpected: ",
                     printable(substr $expected, $from, 120));
    return 0;
}


sub printable {
    my ($text) = @_;

    $text =~ s/\n/\\n/g;
    $text =~ s/\r/\\r/g;
    $text =~ s/([^\x20-\x7e])/sprintf '\\x{%02x}', ord $1/ge;

    return $text;
}


# Logs.

sub note_log_position {
    my ($what) = @_;

    if ($what eq 'block') {
        $log_read = 0;

    } elsif ($what eq 'request') {
        $requests_logged = access_lines();
        $requests_sent = 0;

    } else {
        $requests_sent++;
    }
}


sub access_lines {
    my $text = read_file($path{access_log}) // '';

    return $text =~ tr/\n//;
}


sub log_lines {
    my ($file, $from, $to) = @_;
    my $text = read_file($path{$file}) // '';

    $text = substr $text, 0, $to if defined $to && $to < length $text;

    return split /^/, length $text > $from ? substr $text, $from : '';
}


# nginx writes its last words on a request after the client has the answer,
# and the line of access.log after those. A request that is not logged there
# costs the whole, short, limit.

sub await_end_of_request {
    await(0.2, sub { access_lines() >= $requests_logged + $requests_sent });
}


sub patterns {
    my ($value) = @_;

    return ref $value eq 'ARRAY' ? grep { defined } @$value
         : ref $value ? $value
         : grep { $_ ne '' } split /\n+/, $value;
}


sub matches {
    my ($line, $pattern) = @_;

    return ref $pattern && $line =~ /$pattern/ || $line =~ /\Q$pattern\E/;
}


sub check_logs {
    my ($block, $at) = @_;

    await_end_of_request();

    my $from = $log_read;

    check_grep($block, $at, $from);
    check_present($block, 'error_log', $at, $from);

    # What comes later belongs to the next request's check.

    my $to = -s $path{error_log} // 0;

    check_absent($block, 'no_error_log', $at, $from, $to);

    if (!defined $block->ignore_response && !defined $block->must_die) {
        check_present($block, 'access_log', $at, 0);
        check_absent($block, 'no_access_log', $at, 0);
    }

    report_severe($block, $from, $to);

    $log_read = $to if !$set{accumulate_log};
}


sub check_present {
    my ($block, $section, $at, $from) = @_;
    my $value = $block->$section;

    return if !defined $value;

    my ($file) = $section =~ /((?:error|access)_log)/;
    my @wanted = patterns($value);
    my %found;

    await($set{timeout}, sub {
        my @lines = log_lines($file, $from);

        for my $i (grep { !$found{$_} } 0 .. $#wanted) {
            $found{$i} = grep { matches($_, $wanted[$i]) } @lines;
        }

        return @wanted == grep { $_ } values %found;
    });

    for my $i (0 .. $#wanted) {
        Test::More::ok($found{$i}, $block->name . " - pattern \"$wanted[$i]\""
                       . " matches a line in $file (req $at->{repeat})");
    }
}


sub check_absent {
    my ($block, $section, $at, $from, $to) = @_;
    my $value = $block->$section;

    return if !defined $value;

    my ($file) = $section =~ /((?:error|access)_log)/;
    my @lines = log_lines($file, $from, $to);

    for my $pattern (patterns($value)) {
        my @found = grep { matches($_, $pattern) } @lines;

        Test::More::ok(!@found, $block->name . " - pattern \"$pattern\" does "
                       . "not match a line in $file (req $at->{repeat})")
            or Test::More::diag(@found[0 .. ($#found < 9 ? $#found : 9)]);
    }
}


sub check_grep {
    my ($block, $at, $from) = @_;
    my $name = $block->name;
    my ($pattern, $expected) = map { ref $_ eq 'ARRAY' ? $_->[$at->{repeat}]
                                                       : $_ }
                               $block->grep_error_log // undef,
                               $block->grep_error_log_out // undef;

    return if !defined $pattern && !defined $expected;

    bail_out("$name - grep_error_log and grep_error_log_out need each "
             . "other\n")
        if !defined $pattern || !defined $expected;

    $expected = expand_env($expected, $name);

    my $got;

    await(1, sub {
        $got = '';

        for my $line (log_lines('error_log', $from)) {
            next if !(ref $pattern ? $line =~ /$pattern/
                                   : $line =~ /\Q$pattern\E/);
            my $match = $&;
            $got .= "$match\n" if $match !~ /\n/;
        }

        return ref $expected ? $got =~ $expected : $got eq $expected;
    });

    $name .= " - grep_error_log_out (req $at->{repeat})";

    ref $expected ? Test::More::like($got, $expected, $name)
                  : is_text($got, $expected, $name);
}


# Said, not judged, as in Test::Nginx; a failed assertion is judged.

sub report_severe {
    my ($block, $from, $to) = @_;
    my $name = $block->name;
    my $expected = join "\n", map { patterns($_) }
                              grep { defined }
                              $block->error_log // undef,
                              $block->no_error_log // undef;

    for my $line (log_lines('error_log', $from, $to)) {
        if ($line =~ /(\[(?:alert|crit|emerg))\]/ && index($expected, $1) < 0) {
            warn "WARNING: $name - $line";
        }

        Test::More::fail("$name - $line") if $line =~ /\bAssertion .*failed\b/;
    }
}

1;
