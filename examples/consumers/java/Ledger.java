import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.time.Duration;
import java.util.List;
import java.util.Map;

import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A ledger: what each merchant's customers have paid and got back. It does what
 * ledger.py beside it does, on the same tables (schema.sql).
 *
 * <p>An event is claimed, by a row of its payment and version, in the
 * transaction that books it. So an event that comes again, from the publisher or
 * from Kafka after an end of this process, finds its row and is passed over.
 * Whatever goes wrong ends the process with nothing half done; whoever started
 * it starts it again.
 *
 * <p>Settings are in the environment: KAFKA_BROKERS, KAFKA_TOPICS, KAFKA_GROUP,
 * and MARIADB_URL with MARIADB_USER and MARIADB_PASSWORD.
 */
public class Ledger {

    private static final int BATCH_EVENTS_MAX = 500;
    private static final Duration WAIT_MAX = Duration.ofMillis(500);

    /** after so long without a word, the partitions go to others */
    private static final int SESSION_MS = 10_000;

    private static final long AMOUNT_MAX = (1L << 53) - 1;

    private static final int DUPLICATE_ENTRY = 1062;

    private static final ObjectMapper JSON = new ObjectMapper();

    private record Event(String payment, long version, String type,
            String merchant, String currency, long moved, String source) {

        static Event of(ConsumerRecord<String, String> message) {
            String source = message.topic() + "/" + message.partition() + "/"
                    + message.offset();

            try {
                JsonNode value = JSON.readTree(message.value());

                return new Event(text(value, "paymentId"),
                        number(value, "version", 1, Integer.MAX_VALUE),
                        text(value, "eventType"), text(value, "merchantId"),
                        text(value, "currency"),
                        number(value, "operationAmount", 0, AMOUNT_MAX),
                        source);
            } catch (JsonProcessingException | IllegalArgumentException e) {
                throw new IllegalStateException(source + " is no payment event",
                        e);
            }
        }

        private static String text(JsonNode value, String member) {
            if (!value.path(member).isTextual()) {
                throw new IllegalArgumentException(member);
            }

            return value.get(member).textValue();
        }

        private static long number(JsonNode value, String member, long least,
                long most) {
            JsonNode number = value.path(member);

            if (!number.isIntegralNumber() || !number.canConvertToLong()
                    || number.longValue() < least
                    || number.longValue() > most) {
                throw new IllegalArgumentException(member);
            }

            return number.longValue();
        }

        long captured() {
            return type.equals("captured") ? moved : 0;
        }

        long refunded() {
            return type.equals("refunded") ? moved : 0;
        }
    }

    private static final List<String> TYPES =
            List.of("authorized", "captured", "refunded", "voided",
                    "expired");

    private final Connection database;
    private final PreparedStatement claim;
    private final PreparedStatement book;

    private Ledger(Connection database) throws SQLException {
        this.database = database;
        database.setAutoCommit(false);

        // no locks on the gaps beside a row, for which ledgers would wait
        database.setTransactionIsolation(
                Connection.TRANSACTION_READ_COMMITTED);

        claim = database.prepareStatement("INSERT INTO consumed_event"
                + " (payment_id, version, source) VALUES (?, ?, ?)");
        book = database.prepareStatement("INSERT INTO merchant_balance"
                + " VALUES (?, ?, ?, ?) ON DUPLICATE KEY UPDATE"
                + " captured = captured + VALUE(captured),"
                + " refunded = refunded + VALUE(refunded)");
    }

    private boolean claimed(Event event) throws SQLException {
        claim.setString(1, event.payment());
        claim.setLong(2, event.version());
        claim.setString(3, event.source());

        try {
            claim.executeUpdate();
            return true;
        } catch (SQLException e) {
            // the statement alone is undone, not the transaction
            if (e.getErrorCode() == DUPLICATE_ENTRY) {
                return false;
            }

            throw e;
        }
    }

    private void book(Event event) throws SQLException {
        if (!TYPES.contains(event.type())) {
            // it may move money: it is not passed over
            throw new IllegalStateException(event.source()
                    + " is of the unknown type " + event.type());
        }

        if (!claimed(event)) {
            return;
        }

        book.setString(1, event.merchant());
        book.setString(2, event.currency());
        book.setLong(3, event.captured());
        book.setLong(4, event.refunded());
        book.executeUpdate();
    }

    private void carryOut(ConsumerRecords<String, String> messages)
            throws SQLException {
        for (ConsumerRecord<String, String> message : messages) {
            book(Event.of(message));
        }

        database.commit();
    }

    private static KafkaConsumer<String, String> consumer() {
        return new KafkaConsumer<>(Map.of(
                "bootstrap.servers", System.getenv("KAFKA_BROKERS"),
                "group.id", System.getenv("KAFKA_GROUP"),
                "auto.offset.reset", "earliest",
                "enable.auto.commit", "false",
                "session.timeout.ms", SESSION_MS,
                "max.poll.records", BATCH_EVENTS_MAX),
                new StringDeserializer(), new StringDeserializer());
    }

    private void run(KafkaConsumer<String, String> consumer)
            throws SQLException {
        while (true) {
            ConsumerRecords<String, String> messages = consumer.poll(WAIT_MAX);

            if (messages.isEmpty()) {
                continue;
            }

            carryOut(messages);

            try {
                consumer.commitSync();
            } catch (CommitFailedException | RebalanceInProgressException e) {
                // the partitions go to another consumer, which reads these
                // events once more and finds them claimed
                System.err.println("offsets are not committed: " + e);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        Thread main = Thread.currentThread();

        try (Connection database = DriverManager.getConnection(
                     System.getenv("MARIADB_URL"),
                     System.getenv("MARIADB_USER"),
                     System.getenv("MARIADB_PASSWORD"));
             KafkaConsumer<String, String> consumer = consumer()) {

            Runtime.getRuntime().addShutdownHook(new Thread(() -> {
                consumer.wakeup();

                try {
                    main.join();
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
            }));

            consumer.subscribe(List.of(System.getenv("KAFKA_TOPICS")
                    .split(",")));
            new Ledger(database).run(consumer);
        } catch (WakeupException e) {
            // SIGTERM: between two batches, or nothing of one is committed
        }
    }
}
