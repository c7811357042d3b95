import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.Return;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;

/** What a program with RabbitMQ's Java client does all day, against the broker of AMQP_URL. */
public final class Interop {
    private static final long DEADLINE_MILLISECONDS = 30_000;

    private interface Check {
        void run(Connection connection) throws Exception;
    }

    public static void main(String[] arguments) {
        try (Connection connection = factory().newConnection("interop")) {
            run("confirmed publishes are consumed in order", Interop::confirmedPublishes, connection);
            run("nacked messages come back flagged", Interop::nackedMessages, connection);
            run("unroutable mandatory messages are returned", Interop::mandatoryReturns, connection);
            run("requests are answered by direct reply-to", Interop::directReplyTo, connection);
            run("exclusive queues are locked for others", Interop::exclusiveQueues, connection);
            run("a missing queue costs the channel only", Interop::missingQueue, connection);
            run("deleting a queue cancels its consumer", Interop::cancelNotify, connection);
            run("large messages arrive whole", Interop::largeMessages, connection);
            run("a transaction is rolled back and committed", Interop::transactions, connection);
            run("an idle connection is kept by heartbeats", Interop::heartbeats, connection);
        } catch (Exception | AssertionError error) {
            error.printStackTrace();
            System.exit(1);
        }
        System.out.println("ok amqp-client " + Connection.class.getPackage().getImplementationVersion());
        System.exit(0);
    }

    private static void run(String name, Check check, Connection connection) throws Exception {
        check.run(connection);
        System.out.println("   " + name);
    }

    private static ConnectionFactory factory() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(System.getenv("AMQP_URL"));
        factory.setAutomaticRecoveryEnabled(false);
        return factory;
    }

    private static void confirmedPublishes(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        String exchange = unique("exchange");
        String queue = unique("queue");
        channel.exchangeDeclare(exchange, "topic", true);
        channel.queueDeclare(queue, true, false, false, null);
        channel.queueBind(queue, exchange, "order.*");
        channel.confirmSelect();
        for (int number = 0; number < 100; number++) {
            channel.basicPublish(exchange, "order.new", MessageProperties.PERSISTENT_BASIC, bytes(number));
        }
        channel.waitForConfirmsOrDie(DEADLINE_MILLISECONDS);
        expect(100L, channel.messageCount(queue));

        Channel consumer = connection.createChannel();
        consumer.basicQos(10);
        BlockingQueue<Delivery> deliveries = consume(consumer, queue, false);
        List<String> bodies = new ArrayList<>();
        for (int number = 0; number < 100; number++) {
            Delivery delivery = next(deliveries);
            bodies.add(text(delivery.getBody()));
            consumer.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
        }
        expect(IntStream.range(0, 100).mapToObj(Integer::toString).toList(), bodies);
        consumer.close();
        channel.queueDelete(queue);
        channel.exchangeDelete(exchange);
    }

    private static void nackedMessages(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        String queue = channel.queueDeclare().getQueue();
        channel.confirmSelect();
        channel.basicPublish("", queue, null, bytes(1));
        channel.basicPublish("", queue, null, bytes(2));
        channel.waitForConfirmsOrDie(DEADLINE_MILLISECONDS);
        channel.basicNack(got(channel, queue, "1", false), false, true);
        channel.basicReject(got(channel, queue, "1", true), false);
        channel.basicAck(got(channel, queue, "2", false), false);
        expect(null, channel.basicGet(queue, false));
        channel.close();
    }

    /** Gets a message that must be this one and returns its delivery tag. */
    private static long got(Channel channel, String queue, String body, boolean redelivered) throws IOException {
        GetResponse response = channel.basicGet(queue, false);
        expect(body, text(response.getBody()));
        expect(redelivered, response.getEnvelope().isRedeliver());
        return response.getEnvelope().getDeliveryTag();
    }

    private static void mandatoryReturns(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        BlockingQueue<Return> returns = new LinkedBlockingQueue<>();
        channel.addReturnListener(returns::add);
        channel.confirmSelect();
        channel.basicPublish("amq.direct", unique("nobody"), true, null, bytes(1));
        channel.waitForConfirmsOrDie(DEADLINE_MILLISECONDS);
        Return returned = next(returns);
        expect(AMQP.NO_ROUTE, returned.getReplyCode());
        expect("NO_ROUTE", returned.getReplyText());
        expect("1", text(returned.getBody()));
        channel.close();
    }

    private static void directReplyTo(Connection connection) throws Exception {
        Channel server = connection.createChannel();
        String queue = server.queueDeclare().getQueue();
        server.basicConsume(queue, true, (tag, request) -> {
            AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder()
                    .correlationId(request.getProperties().getCorrelationId())
                    .build();
            byte[] answer = bytes(Integer.parseInt(text(request.getBody())) * 2);
            server.basicPublish("", request.getProperties().getReplyTo(), properties, answer);
        }, tag -> { });

        Channel client = connection.createChannel();
        BlockingQueue<Delivery> deliveries = consume(client, "amq.rabbitmq.reply-to", true);
        for (int number = 0; number < 3; number++) {
            AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder()
                    .replyTo("amq.rabbitmq.reply-to")
                    .correlationId(Integer.toString(number))
                    .build();
            client.basicPublish("", queue, properties, bytes(number));
        }
        TreeMap<String, String> answers = new TreeMap<>();
        for (int number = 0; number < 3; number++) {
            Delivery answer = next(deliveries);
            answers.put(answer.getProperties().getCorrelationId(), text(answer.getBody()));
        }
        expect("{0=0, 1=2, 2=4}", answers.toString());
        client.close();
        server.close();
    }

    private static void exclusiveQueues(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        String queue = channel.queueDeclare("", false, true, false, null).getQueue();
        try (Connection other = factory().newConnection()) {
            Channel stranger = other.createChannel();
            expectRefusal(AMQP.RESOURCE_LOCKED, () -> stranger.queueDeclarePassive(queue));
        }
        channel.close();
    }

    private static void missingQueue(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        expectRefusal(AMQP.NOT_FOUND, () -> channel.queueDeclarePassive(unique("missing")));
        expect(false, channel.isOpen());
        Channel next = connection.createChannel();
        next.queueDeclare();
        next.close();
    }

    private static void cancelNotify(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        String queue = channel.queueDeclare().getQueue();
        BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, false, "watcher", (tag, delivery) -> { }, cancelled::add);
        Channel other = connection.createChannel();
        other.queueDelete(queue);
        expect("watcher", next(cancelled));
        other.close();
        channel.close();
    }

    private static void largeMessages(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        String queue = channel.queueDeclare().getQueue();
        byte[] sent = new byte[2_000_000];
        new Random(1).nextBytes(sent);
        channel.confirmSelect();
        channel.basicPublish("", queue, null, sent);
        channel.waitForConfirmsOrDie(DEADLINE_MILLISECONDS);
        expect(true, Arrays.equals(sent, channel.basicGet(queue, true).getBody()));
        channel.close();
    }

    private static void transactions(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        String queue = channel.queueDeclare().getQueue();
        channel.txSelect();
        channel.basicPublish("", queue, null, bytes(1));
        channel.txRollback();
        channel.basicPublish("", queue, null, bytes(2));
        channel.txCommit();
        expect("2", text(channel.basicGet(queue, true).getBody()));
        expect(null, channel.basicGet(queue, true));
        channel.close();
    }

    private static void heartbeats(Connection unused) throws Exception {
        ConnectionFactory factory = factory();
        factory.setRequestedHeartbeat(1);
        try (Connection connection = factory.newConnection()) {
            expect(1, connection.getHeartbeat());
            BlockingQueue<ShutdownSignalException> lost = new LinkedBlockingQueue<>();
            connection.addShutdownListener(lost::add);
            // Four intervals. The client gives up when no heartbeats come.
            expect(null, lost.poll(4, TimeUnit.SECONDS));
            connection.createChannel().queueDeclare();
        }
    }

    private interface Action {
        void run() throws IOException;
    }

    private static void expectRefusal(int code, Action action) {
        try {
            action.run();
        } catch (IOException error) {
            ShutdownSignalException signal = (ShutdownSignalException) error.getCause();
            AMQP.Channel.Close close = (AMQP.Channel.Close) signal.getReason();
            expect(code, close.getReplyCode());
            return;
        }
        throw new AssertionError("not refused with " + code);
    }

    private static BlockingQueue<Delivery> consume(Channel channel, String queue, boolean autoAck) throws IOException {
        BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, autoAck, (tag, delivery) -> deliveries.add(delivery), tag -> { });
        return deliveries;
    }

    private static <T> T next(BlockingQueue<T> queue) throws InterruptedException {
        T item = queue.poll(DEADLINE_MILLISECONDS, TimeUnit.MILLISECONDS);
        if (item == null) {
            throw new AssertionError("nothing came in time");
        }
        return item;
    }

    private static void expect(Object expected, Object actual) {
        if (expected == null ? actual != null : !expected.equals(actual)) {
            throw new AssertionError("expected " + expected + ", got " + actual);
        }
    }

    private static byte[] bytes(int number) {
        return Integer.toString(number).getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }

    private static String unique(String name) {
        return "java." + name + "." + UUID.randomUUID();
    }
}
