package PaymentTest::World;

# The view from outside: a plain HTTP client, SQL as the administrator, what is
# in Kafka, which processes there are. Everything works through the programs
# that a user has (mariadb, kcat, ps), and every wait has a limit.

use strict;
use warnings;

use Exporter qw( import );
use IPC::Open2;
use IO::Select;
use IO::Socket::INET;
use Time::HiRes qw( sleep time );

our @EXPORT = qw(
    await read_file sql new_database identify database_away database_back
    lock_tables unlock_tables
    http http_at_once http2 http3 can_http3 listen_http2 listen_http3
    events_in_kafka outbox_count
    master_pid is_alive helpers helper_title nginx_test status
);


# Until the condition holds, or 10 seconds are over: returns what it said last.

sub await(&) {
    my ($condition) = @_;
    my $end = time + 10;

    while (1) {
        my $result = $condition->();

        return $result if $result || time > $end;
        sleep 0.01;
    }
}


sub read_file {
    my ($path) = @_;

    open my $in, '<:raw', $path or return '';
    local $/;

    return scalar(<$in>) // '';
}


sub port {
    return $ENV{TEST_NGINX_CLIENT_PORT} || $ENV{TEST_NGINX_SERVER_PORT}
        || $ENV{TEST_NGINX_PORT};
}


# --- database

sub client {
    my ($database, @options) = @_;

    return ('mariadb', '--no-defaults',
            "--socket=$ENV{PAYMENT_TEST_DB_SOCKET}",
            "--user=$ENV{PAYMENT_TEST_DB_ADMIN_USER}", '-N', '-B', '--raw',
            '--default-character-set=utf8mb4', @options,
            $database eq '' ? () : $database);
}


# Rows as lines, columns apart by tabs. Without a database's name: ours.

sub sql {
    my ($statement, $database) = @_;
    my @command = client($database // PaymentTest::database(),
                         '-e', $statement);

    local $ENV{MYSQL_PWD} = $ENV{PAYMENT_TEST_DB_ADMIN_PASSWORD};

    open my $in, '-|', @command or die "mariadb: $!\n";

    my $rows = do { local $/; <$in> } // '';

    close $in or die "mariadb failed: $statement\n";

    return $rows;
}


# With every migration of sql/ applied.

sub new_database {
    my ($name) = @_;

    sql("DROP DATABASE IF EXISTS $name; CREATE DATABASE $name", '');

    local $ENV{MYSQL_PWD} = $ENV{PAYMENT_TEST_DB_ADMIN_PASSWORD};
    my @command = ('tools/migrate.sh', 'up', $name, '--no-defaults',
                   "--socket=$ENV{PAYMENT_TEST_DB_SOCKET}",
                   "--user=$ENV{PAYMENT_TEST_DB_ADMIN_USER}");

    my $said = `@command 2>&1`;

    die "@command: $said" if $?;
}


# Says whose a database is, as its first connection would.

sub identify {
    my ($name, $shard, $slots) = @_;

    sql("INSERT INTO payment_identity (installation, shard, slots, secret)
         VALUES ('00000000-0000-4000-8000-000000000000', '$shard', '$slots',
                 '0123456789abcdef')", $name);
}


# The database is away for a shard whose server is
# unix:$TEST_NGINX_PAYMENT_DB_LINK, and its connections are dead.

sub database_away {
    unlink $ENV{TEST_NGINX_PAYMENT_DB_LINK};

    my $user = $ENV{PAYMENT_TEST_DB_USER};
    my $database = PaymentTest::database();

    for my $id (split ' ', sql("SELECT id FROM information_schema.processlist
                                WHERE user = '$user' AND db = '$database'",
                               ''))
    {
        eval { sql("KILL $id", '') };
    }

    return '';
}


sub database_back {
    symlink $ENV{PAYMENT_TEST_DB_SOCKET}, $ENV{TEST_NGINX_PAYMENT_DB_LINK};

    return '';
}


# Holds table locks ("payment WRITE") in a session of its own, from now on.

my ($holder, $holder_in, $holder_out);

sub lock_tables {
    my ($tables) = @_;

    local $ENV{MYSQL_PWD} = $ENV{PAYMENT_TEST_DB_ADMIN_PASSWORD};

    $holder = open2($holder_out, $holder_in,
                    client(PaymentTest::database(), '--unbuffered'));

    print $holder_in "LOCK TABLES $tables; SELECT 'locked';\n";
    $holder_in->flush;

    <$holder_out> eq "locked\n" or die "no lock on $tables\n";
}


sub unlock_tables {
    close $holder_in;
    close $holder_out;
    waitpid $holder, 0;

    return '';
}


sub outbox_count {
    my $count = sql('SELECT COUNT(*) FROM outbox_event');

    chomp $count;
    return $count;
}


# --- HTTP

# Returns code, headers (a string) and body.

sub http {
    my ($method, $uri, $body, @headers) = @_;

    my ($answer) = http_at_once(1, $method, $uri, $body, @headers);

    return @$answer;
}


# The same request on n connections at the same time.

sub http_at_once {
    my ($n, $method, $uri, $body, @headers) = @_;

    $body //= '';

    my $request = join "\r\n", "$method $uri HTTP/1.1", 'Host: localhost',
                       'Connection: close', 'Content-Type: application/json',
                       'Content-Length: ' . length $body, @headers, '', $body;
    my @answers;
    my %socket;
    my $select = IO::Select->new;

    for my $i (0 .. $n - 1) {
        $answers[$i] = '';
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                         PeerPort => port(), Timeout => 3)
            or next;

        $socket{$sock} = $i;
        $select->add($sock);
    }

    $_->syswrite($request) for $select->handles;

    while ($select->count) {
        my @ready = $select->can_read(10) or last;

        for my $sock (@ready) {
            my $i = $socket{$sock};

            $select->remove($sock)
                if !sysread $sock, $answers[$i], 65536, length $answers[$i];
        }
    }

    return map {
        m{\AHTTP/1\.1 (\d+) [^\r]*\r\n(.*?)\r\n\r\n(.*)\z}s ? [$1, $2, $3]
                                                            : ['', '', '']
    } @answers;
}


# One request in HTTP/2, clear text, or in HTTP/3, to a server that has the lines
# of $TEST_NGINX_PAYMENT_HTTP2 or of $TEST_NGINX_PAYMENT_HTTP3. Returns code,
# version and body.

sub http2 {
    return curl('--http2-prior-knowledge',
                "http://127.0.0.1:$ENV{TEST_NGINX_PAYMENT_HTTP2_PORT}", @_);
}


sub http3 {
    return curl('--http3-only',
                "https://127.0.0.1:$ENV{TEST_NGINX_PAYMENT_HTTP3_PORT}", @_);
}


sub curl {
    my ($option, $origin, $method, $uri, $body) = @_;

    my @command = ('curl', '-s', '-k', $option, '--max-time', 5,
                   '-X', $method, '-H', 'Content-Type: application/json',
                   '-w', '\n%{http_version} %{http_code}', "$origin$uri");

    push @command, '--data-binary', $body if defined $body;

    open my $in, '-|', @command or die "curl: $!\n";

    my $answer = do { local $/; <$in> } // '';

    close $in;

    return $answer =~ /\A(.*)\n(\S+) (\d+)\z/s ? ($3, $2, $1) : ('', '', '');
}


# Debian 12 has neither a curl nor an nginx that can do it.

sub can_http3 {
    return `curl -V` =~ /\bHTTP3\b/
           && `$ENV{TEST_NGINX_BINARY} -V 2>&1` =~ /--with-http_v3_module\b/;
}


# What a server{} says to listen for HTTP/2: the word changed in nginx 1.25.1.

sub listen_http2 {
    my ($port) = @_;
    my ($minor, $patch) = `$ENV{TEST_NGINX_BINARY} -v 2>&1`
                          =~ m{/1\.(\d+)\.(\d+)} or die "no nginx's version\n";

    return $minor * 1000 + $patch >= 25001
           ? "listen 127.0.0.1:$port; http2 on" : "listen 127.0.0.1:$port http2";
}


# And for HTTP/3, with a certificate that nobody signed, made in $dir.

sub listen_http3 {
    my ($port, $dir) = @_;

    system("openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost"
           . " -days 2 -keyout $dir/key.pem -out $dir/cert.pem 2>/dev/null")
        == 0 or die "openssl makes no certificate\n";

    return "listen 127.0.0.1:$port quic; ssl_certificate $dir/cert.pem;"
           . " ssl_certificate_key $dir/key.pem; ssl_protocols TLSv1.3";
}


sub status {
    my ($code, undef, $body) = http('GET', '/status');

    require JSON::PP;

    return $code eq '200' ? eval { JSON::PP::decode_json($body) } // {} : {};
}


# --- Kafka

# The events of one payment, oldest first, each as [key, value, headers].

sub events_in_kafka {
    my ($payment_id, $wanted) = @_;

    my @events;
    my $seen = await {
        @events = grep { $_->[1] =~ /\Q$payment_id\E/ } all_events();
        return @events >= $wanted;
    };

    return @events;
}


sub all_events {
    my $topic = $ENV{TEST_NGINX_PAYMENT_TOPIC};
    my $broker = "127.0.0.1:$ENV{PAYMENT_TEST_KAFKA_PORT}";

    # a topic that is not there yet has no events, and that is no news

    open my $in, '-|', "kcat -C -q -e -o beginning -b $broker -t $topic"
                       . q{ -X log_level=0 -f '%k\x01%s\x01%h\x02' 2>/dev/null}
        or die "kcat: $!\n";

    my $all = do { local $/; <$in> } // '';

    close $in;

    return map { [split /\x01/, $_, -1] } grep { /\x01/ } split /\x02/, $all;
}


# --- processes

sub master_pid {
    my $root = $ENV{TEST_NGINX_SERVER_ROOT};
    my ($pid) = read_file("$root/logs/nginx.pid") =~ /^(\d+)/;

    return $pid;
}


# A zombie has ended: it only waits to be told of.

sub is_alive {
    my ($pid) = @_;

    return kill(0, $pid) && read_file("/proc/$pid/stat") !~ /\) [ZX] /;
}


# The pids of all helpers that write to this nginx's log, whoever is their
# parent: an orphan counts.

sub helpers {
    my $log = "$ENV{TEST_NGINX_SERVER_ROOT}/logs/error.log";
    my @found;

    for my $dir (glob '/proc/[0-9]*') {
        next if read_file("$dir/cmdline") !~ /payment outbox/;

        push @found, $dir =~ m{(\d+)$}
            if grep { (readlink // '') =~ /^\Q$log\E/ } glob "$dir/fd/*";
    }

    @found = sort { $a <=> $b } @found;

    return @found;
}


sub helper_title {
    my ($pid) = helpers();

    return 'no helper' if !defined $pid;

    my $title = `ps -o args= -p $pid`;

    $title =~ s/\s+$//;
    return $title;
}


# What "nginx -t" says of the running server's own configuration.

sub nginx_test {
    my $root = $ENV{TEST_NGINX_SERVER_ROOT};
    my $said = `$ENV{TEST_NGINX_BINARY} -t -e $root/logs/error.log \\
                -p $root/ -c $root/conf/nginx.conf 2>&1`;

    return $? == 0 ? 'ok' : $said;
}

1;
