package PaymentTest::Words;

# Filters for response_body_filters: they turn an answer, and what the database
# says of it, into a few words, so that a block's expectation reads as the
# promise it checks. What varies (ids, times) becomes a label; what is missing
# or malformed is said, and so fails the block.
#
#     told            what the client was told
#     told_and_kept   the same, and the row and events in the database
#     same            whether the body equals the one before, byte for byte
#
# A block's init section calls given() for a payment to start from; {A} in any
# section then stands for the id of the payment that given() named A.

use strict;
use warnings;

use Exporter qw( import );
use JSON::PP;

use PaymentTest::World;

our @EXPORT = qw( told told_and_kept kept same given given_at remember
                  forget_payments id_of with_nothing_kept tally );

my %id;                 # by label
my $previous_body;
my $uuid7 = qr/[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}
               -[0-9a-f]{12}/x;
my $key = 0;


sub forget_payments {
    %id = ();
    undef $previous_body;
}


sub id_of {
    my ($label) = @_;

    return $id{$label} // die "no payment $label\n";
}


# given(A => { amount => 1000 }, capture => { amount => 400 }, void => {}, ...)

sub given {
    given_at('/api/payments', @_);
}


sub given_at {
    my ($prefix, $label, $members, @steps) = @_;
    my %m = (merchantId => 'M1', amount => 1000, currency => 'KRW', %$members);

    $m{idempotencyKey} //= "given-$$-" . ++$key;

    my $body = do_for_given("$prefix/authorize", \%m);

    $id{$label} = $body->{paymentId};

    while (my ($operation, $more) = splice @steps, 0, 2) {
        my %n = (merchantId => $m{merchantId}, %$more);

        $n{reason} //= 'returned' if $operation eq 'refund';
        do_for_given("$prefix/$operation/$id{$label}", \%n);
    }

    substitute_all();
}


# A label may stand for any text, too: {next} for a cursor, say.

sub remember {
    my ($label, $text) = @_;

    $id{$label} = $text;
    substitute_all();
}


sub substitute_all {
    substitute($_) for qw( request raw_request pipelined_requests more_headers
                           response_body );
}


sub do_for_given {
    my ($uri, $members) = @_;
    my ($code, undef, $body) = http('POST', $uri, encode_json($members));

    die "given: $uri: $code $body\n" if $code ne '200';

    return decode_json($body);
}


sub substitute {
    my ($section) = @_;
    my $value = $PaymentTest::block->$section;

    $PaymentTest::block->set_value($section, with_ids($value))
        if defined $value;
}


sub with_ids {
    my ($value) = @_;

    return [map { with_ids($_) } @$value] if ref $value eq 'ARRAY';
    return $value if ref $value;

    $value =~ s/\{(\w+)\}/$id{$1} \/\/ "{$1}"/ge;
    return $value;
}


sub label_of {
    my ($id) = @_;
    my ($label) = grep { $id{$_} eq $id } sort keys %id;

    return $label if defined $label;

    $label = 'P' . (1 + grep { /^P\d+$/ } keys %id);
    $id{$label} = $id;

    return $label;
}


# --- told

sub told {
    my ($body) = @_;
    my $json = eval { decode_json($body) };

    return "no JSON object: $body\n" if ref $json ne 'HASH';

    return exists $json->{code} ? told_problem($json) : told_payment($json);
}


# P1 AUTHORIZED 1000 KRW, captured 0, refunded 0

sub told_payment {
    my ($json) = @_;
    my %expected = (
        paymentId       => qr/^$uuid7$/,
        status          => qr/^[A-Z_]+$/,
        amount          => qr/^\d+$/,
        currency        => qr/^[A-Z]{3}$/,
        createdAt       => qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/,
        message         => qr/\S/,
    );

    my @wrong = map { "bad $_" }
                grep { ($json->{$_} // '') !~ $expected{$_} } sort keys %expected;

    push @wrong, 'bad ledgerEntries' if ref $json->{ledgerEntries} ne 'ARRAY';
    return join(', ', @wrong) . "\n" if @wrong;

    return sprintf "%s %s %s %s, captured %s, refunded %s%s\n",
                   label_of($json->{paymentId}),
                   @$json{qw( status amount currency )},
                   (map { $_ // 'not told' }
                    @$json{qw( capturedAmount refundedAmount )}),
                   told_operation($json->{operation});
}


# of a look-up: "; capture 2: CAPTURED, captured 1000, refunded 0"

sub told_operation {
    my ($operation) = @_;

    return '' if !defined $operation;

    return sprintf '; %s %s: %s, captured %s, refunded %s',
                   map { $_ // 'not told' }
                   @$operation{qw( type version status capturedAmount
                                   refundedAmount )};
}


# 409 CAPTURE_CONFLICT [field][, of P1]

sub told_problem {
    my ($json) = @_;
    my $field = $json->{field};
    my @wrong = map { "no $_" }
                grep { !defined $json->{$_} || $json->{$_} eq '' }
                qw( type title status detail code message );

    push @wrong, "$_ does not name $field"
        for grep { defined $field && index($json->{$_} // '', $field) < 0 }
            qw( detail message );
    return join(', ', @wrong) . "\n" if @wrong;

    my $text = "$json->{status} $json->{code}";

    $text .= " $field" if defined $field;
    $text .= ', of ' . label_of($json->{paymentId})
        if defined $json->{paymentId};

    return "$text\n";
}


# --- kept

# The row and the events of the payment that the answer is about, or of the
# only one there is.

sub told_and_kept {
    my ($body) = @_;
    my $text = told($body);
    my $json = eval { decode_json($body) } // {};
    my ($only) = values %id;
    my $id = $json->{paymentId} // $only;

    return defined $id ? $text . kept($id) : $text . "nothing to look up\n";
}


sub kept {
    my ($id) = @_;
    my $hex = "UNHEX(REPLACE('$id', '-', ''))";

    my $row = sql("SELECT CONCAT(merchant_id, ' ', status, ' ', amount, ' ',
                          currency, ', captured ', captured_amount,
                          ', refunded ', refunded_amount,
                          ', version ', version)
                   FROM payment WHERE id = $hex");

    my $events = sql("SELECT GROUP_CONCAT(type ORDER BY id SEPARATOR ', ')
                      FROM outbox_event WHERE aggregateid = '$id'");

    $row = "none\n" if $row eq '';
    $events = "none\n" if $events eq "NULL\n";

    return "row: ${row}events: $events";
}


# For requests that must not leave a trace: says so, or what there is.

sub with_nothing_kept {
    my ($text) = @_;
    my $counts = sql('SELECT (SELECT COUNT(*) FROM payment),
                             (SELECT COUNT(*) FROM idempotency_key),
                             (SELECT COUNT(*) FROM outbox_event)');

    return $text if $counts eq "0\t0\t0\n";

    chomp $text;
    return "$text, but payments, keys, events: $counts";
}


# "11 x 200, 19 x 409", of a list of codes.

sub tally {
    my %n;

    $n{$_}++ for @_;

    return join(', ', map { "$n{$_} x $_" } sort keys %n) . "\n";
}


sub same {
    my ($body) = @_;
    my $before = $previous_body;

    $previous_body = $body;

    return told($body) if !defined $before;
    return $body eq $before ? "same\n" : "not the same: $body\n";
}

1;
