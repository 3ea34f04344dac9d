package NginxRunner::Client;

# The client of the tests: makes requests out of a block's sections, sends
# them byte for byte, reads until the server closes, and takes answers apart.
# It is no HTTP library: it must be able to send what one would not.

use strict;
use warnings;

use Errno qw( EAGAIN EWOULDBLOCK EINTR );
use Exporter qw( import );
use IO::Socket::INET;
use Time::HiRes qw( time );

use NginxRunner::Settings;
use NginxRunner::Util;

our @EXPORT = qw( requests_of_block send_request parse_response );


# One entry per connection to make, each a list of packets: value, and
# delay_before in seconds where it was asked for.

sub requests_of_block {
    my ($block) = @_;
    my $name = $block->name;
    my $raw = $block->raw_request;

    return [map { { value => $_ } } ref $raw ? @$raw : $raw] if defined $raw;

    my $more = $block->more_headers // '';
    my $headers_of = sub {
        my ($i) = @_;

        return $more if !ref $more;
        return $more->[$i] // bail_out("$name - more_headers lacks data "
                                       . "for request $i\n");
    };

    if (defined(my $list = $block->pipelined_requests)) {
        bail_out("$name - pipelined_requests is no array\n")
            if ref $list ne 'ARRAY' || !@$list;

        my $all = '';

        for my $i (0 .. $#$list) {
            my $text = expand_env($list->[$i], $name);

            $all .= build_request($name, $text, $headers_of->($i),
                                  $i < $#$list ? 'keep-alive' : 'close');
        }

        return [{ value => $all }];
    }

    my $request = $block->request;

    bail_out("$name - request empty\n") if !defined $request;

    if (!ref $request) {
        1 while $request =~ s/\A\s*\#[^\n]+\s+|\A\s+//;
        $request = [$request];
    }

    bail_out("$name - request is neither a string nor an array\n")
        if ref $request ne 'ARRAY';

    my @all;

    for my $i (0 .. $#$request) {
        push @all, build_packets($name, $request->[$i], $headers_of->($i));
    }

    return @all;
}


# "METHOD /uri [HTTP/1.x]" and the body on the lines below. White space round
# the body goes, unless the block says itself how long the body is.

sub build_request {
    my ($name, $text, $more, $connection) = @_;

    $text =~ /\A\s*(\S+)(?: +(\S+))?(?: +(\S+))? *(?:\n(.*))?\z/s
        or bail_out("$name - Request line is not valid: $text\n");

    my ($method, $uri, $version, $body) = ($1, $2 // '/', $3 // 'HTTP/1.1',
                                           $4 // '');
    my ($headers, $chunked) = parse_more_headers($more);

    my $length = '';

    if (!$chunked && $body ne '' && $headers !~ /^Content-Length:/m) {
        $body =~ s/\A\s+|\s+\z//g;
        $length = 'Content-Length: ' . length($body) . "\r\n";
    }

    my $head = "$method $uri $version\r\n";

    $head .= "Host: $set{server_name}\r\n" if $headers !~ /^Host:/mi;
    $head .= "Connection: $connection\r\n" if $headers !~ /^Connection/mi;

    return "$head$headers$length\r\n$body";
}


sub parse_more_headers {
    my ($text) = @_;
    my ($out, $chunked) = ('', 0);

    for my $line (split /\n+/, $text) {
        next if $line =~ /^\s*\#/;

        my ($key, $value) = split /:\s*/, $line, 2;

        $value //= '';
        $chunked = 1 if lc $key eq 'transfer-encoding' && $value eq 'chunked';
        $out .= "$key: $value\r\n";
    }

    return ($out, $chunked);
}


# A request in packets is written as a list of strings or of hashes. Headers
# are added as to any other, so a boundary in the body moves with the body,
# and one in the request line stays where it is.

sub build_packets {
    my ($name, $request, $more) = @_;

    return [{ value => build_request($name, $request, $more, 'close') }]
        if !ref $request;

    my @packets = map { ref $_ ? { %$_ } : { value => $_ } } @$request;
    my $text = join '', map { $_->{value} } @packets;
    my $built = build_request($name, $text, $more, 'close');

    my $line_end = index $text, "\n";
    my $lead = $text =~ /\A(\s+)/ ? length $1 : 0;
    my $tail = $text =~ /(\s+)\z/ && $built !~ /\s\z/ ? length $1 : 0;
    my ($offset, $sent) = (0, 0);

    for my $packet (@packets) {
        $offset += length $packet->{value};

        my $end = $offset > $line_end && $line_end != -1
                  ? length($built) - (length($text) - $tail - $offset)
                  : $offset - $lead;

        $end = $sent if $end < $sent;
        $end = length $built if $end > length $built;

        $packet->{value} = substr $built, $sent, $end - $sent;
        $sent = $end;
    }

    $packets[-1]{value} .= substr $built, $sent;

    return \@packets;
}


# Returns all that came until the server closed the connection, or undef with
# a reason. Silence for "timeout" seconds ends it: a failure, unless the block
# means to abort.

sub send_request {
    my ($block, $packets) = @_;

    my $limit = seconds($block->timeout) // $set{timeout};
    my $middle = $block->raw_request_middle_delay;

    my $sock = IO::Socket::INET->new(
        PeerAddr => $block->server_addr_for_client // $set{server_addr},
        PeerPort => $set{client_port},
        Proto    => 'tcp',
        Timeout  => $limit,
    ) or return (undef, "Can't connect to $set{server_addr}:"
                        . "$set{client_port}: $!");

    $sock->blocking(0);
    local $SIG{PIPE} = 'IGNORE';

    my @queue = @$packets;
    my $out = (shift @queue)->{value};
    my $answer = '';
    my $hold_until = 0;
    my $quiet_since = time;

    while (1) {
        my $now = time;
        my $may_write = defined $out && $now >= $hold_until;
        my $wait = $limit - ($now - $quiet_since);

        $wait = $hold_until - $now if defined $out && $now < $hold_until;

        my $rin = my $win = '';

        vec($rin, fileno $sock, 1) = 1;
        vec($win, fileno $sock, 1) = 1 if $may_write;

        my $n = select($rin, $win, undef, $wait > 0 ? $wait : 0);

        next if $n < 0 && $! == EINTR;

        if ($n == 0) {
            next if defined $out && $now < $hold_until;

            close $sock;

            return defined $block->abort ? ($answer)
                   : ($answer, 'client socket timed out');
        }

        $quiet_since = time;

        if (vec $rin, fileno $sock, 1) {
            my $bytes = sysread $sock, $answer, 65536, length $answer;

            last if defined $bytes && $bytes == 0;
            last if !defined $bytes && !would_block();
        }

        next if !$may_write || !vec $win, fileno $sock, 1;

        my $bytes = syswrite $sock, $out;

        if (!defined $bytes) {
            next if would_block();

            # The server has heard enough. What it says is still to be read.
            undef $out;
            @queue = ();
            next;
        }

        substr $out, 0, $bytes, '';
        next if $out ne '';

        my $next = shift @queue;

        if (!defined $next) {
            undef $out;
            shutdown $sock, $block->shutdown =~ /(\d)/ ? $1 : 1
                if defined $block->shutdown;
            next;
        }

        $out = $next->{value};
        $hold_until = time + ($next->{delay_before} // $middle // 0);
        undef $out if $out eq '' && !@queue;
    }

    close $sock;

    return ($answer);
}


sub would_block {
    return $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;
}


sub seconds {
    my ($time) = @_;

    return undef if !defined $time;
    return $1 / 1000 if $time =~ /^([\d.]+)ms$/;
    return $1 if $time =~ /^([\d.]+)s?$/;

    bail_out("bad timeout: $time\n");
}


# Returns the answer as a hash (code, raw_headers, headers, body), what is
# left after it, and what was wrong with it.

sub parse_response {
    my ($raw, $is_head) = @_;

    return ({ code => '', raw_headers => '', headers => {}, body => '' },
            '', undef)
        if $raw !~ /\A(.*?\r\n)\r\n(.*)\z/s;

    my ($raw_headers, $body) = ($1, $2);
    my ($status, @lines) = split /\r\n/, $raw_headers;
    my $code = $status =~ m{^HTTP/\d(?:\.\d)? (\d{3})\b} ? $1 : '';
    my %headers;

    for my $line (@lines) {
        my ($key, $value) = split /\s*:\s*/, $line, 2;
        push @{ $headers{lc $key} }, $value // '';
    }

    my $res = { code => $code, raw_headers => $raw_headers,
                headers => \%headers, body => $body };

    return ($res, '', undef) if $code eq '304' || $code eq '101';

    my $encoding = $headers{'transfer-encoding'}[0] // '';
    my $length = $headers{'content-length'}[0];

    if ($encoding eq 'chunked') {
        ($res->{body}, my $left, my $error) = dechunk($body);
        return ($res, $left, $error);
    }

    if (defined $length && $length =~ /^\d+$/) {

        if ($is_head) {
            $res->{body} = '';
            return ($res, $body, undef);
        }

        return ($res, '', 'response body truncated: ' . length($body)
                          . " of $length bytes")
            if length $body < $length;

        $res->{body} = substr $body, 0, $length;
        return ($res, substr($body, $length), undef);
    }

    return ($res, '', undef);
}


sub dechunk {
    my ($raw) = @_;
    my $body = '';

    while ($raw =~ s/\A[ \t]*([0-9A-Fa-f]+)[^\r\n]*\r\n//) {
        my $size = hex $1;

        if ($size == 0) {
            # trailers, if any, and the empty line
            return ($body, $raw, undef) if $raw =~ s/\A(?:[^\r\n]+\r\n)*\r\n//;
            last;
        }

        last if length $raw < $size + 2;

        $body .= substr $raw, 0, $size, '';
        last if $raw !~ s/\A\r\n//;
    }

    return ($body, '', 'invalid chunked body');
}

1;
