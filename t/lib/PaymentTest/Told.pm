package PaymentTest::Told;

# What a node has told that is nobody's business: its password, the keys of its
# clients, pieces of bodies. Searched after each block, in nginx's logs and
# status pages, and with PAYMENT_TEST_SECRETS in what nginx -T shows; told.py is
# the same for t/api and t/fault.

use strict;
use warnings;

use PaymentTest::World;

# the member that nearly every body has, and the one that names a key
my @always = ('"merchantId"', 'idempotencyKey', "given-$$-");

# shorter ones, and words, are found in anything
my $key = qr/[^"'\\&\s,})]{5,}/;

# nginx's own about what it reads, before it knows the location or at the level
# debug: the module has no entries of that level
my $own = '\[debug\] \S+ (?:\*\d+ )?(?:http[23]? |using location: )';
my $early = '\[info\] .* while reading client request ';
my $heard = qr/^\S+ \S+ (?:$own|$early)/;


# The entries with a mark; the first few.

sub told {
    my ($block) = @_;
    my $root = $ENV{TEST_NGINX_SERVER_ROOT};
    my $text = join "\n", map { text_of($block->$_) }
                              qw( request raw_request pipelined_requests
                                  more_headers init );
    my @marks = (@always, grep { length >= 8 } $ENV{PAYMENT_TEST_DB_PASSWORD});

    while ($text =~ /(?:idempotencyKey["']?\s*(?::|=>?)\s*["']?
                        |Idempotency-Key:\s*\\?"?)($key)/gx)
    {
        my $found = $1;

        push @marks, $found if $found =~ m{\d};
    }

    my $marked = join '|', map { quotemeta } @marks;
    my @told;

    for my $log (glob "$root/logs/*.log") {
        push @told, grep { /$marked/ && !/$heard/ } entries($log);
        count(-s $log, $log) if $ENV{PAYMENT_TEST_SECRETS};
    }

    push @told, grep { /$marked/ } dump_of($root)
        if $ENV{PAYMENT_TEST_SECRETS};

    # a dead letter is shown with its merchant
    $marked = join '|', map { quotemeta } grep { !/"merchantId"/ } @marks;
    push @told, grep { /$marked/ } pages($block);

    return @told > 5 ? @told[0 .. 4] : @told;
}


sub text_of {
    my ($value) = @_;

    return ref $value eq 'ARRAY' ? join "\n", map { text_of($_) } @$value
         : ref $value eq 'HASH' ? text_of([values %$value])
         : defined $value && !ref $value ? $value : '';
}


# An entry of the error log begins with its time, and may have several lines. In
# the access log it is nginx that writes a request's first line.

sub entries {
    my ($log) = @_;
    my $text = read_file($log);

    return map { s/"[A-Z]+ \S+ HTTP\/[\d.]+"//r } split /^/, $text
        if $log =~ /access/;

    return split m{^(?=\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[)}m, $text;
}


# For tools/test.sh, which tells how much was searched.

sub count {
    my ($size, $what) = @_;

    open my $out, '>>', "$ENV{PAYMENT_TEST_DIR}/searched" or return;
    print $out "$size $what\n";
}


# Without the passwords that a block itself has written into it.

sub dump_of {
    my ($root) = @_;
    my $nginx = $ENV{TEST_NGINX_BINARY} || 'nginx';
    my $conf = "$root/conf/nginx.conf";
    my $text = `$nginx -T -p $root/ -c $conf -e /dev/null 2>&1`;

    count(length $text, 'nginx -T');

    return grep { !/^\s*password\s/ } split /^/, $text;
}


sub pages {
    my ($block) = @_;
    my $pid = PaymentTest::World::master_pid();

    return () if !defined $pid || !PaymentTest::World::is_alive($pid);

    return map { split /^/, (http('GET', $_))[2] }
           ($block->config // '')
           =~ /location (?:= )?(\/\w+) \{\s*payment_(?:status|outbox_admin)\b/g;
}

1;
