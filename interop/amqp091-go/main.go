// What an amqp091-go program does all day, against the broker of AMQP_URL.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const deadline = 30 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ok amqp091-go", version())
}

func run() error {
	connection, err := amqp.Dial(os.Getenv("AMQP_URL"))
	if err != nil {
		return err
	}
	checks := []struct {
		name  string
		check func(*amqp.Connection) error
	}{
		{"confirmed publishes are consumed in order", confirmedPublishes},
		{"nacked messages come back flagged", nackedMessages},
		{"unroutable mandatory messages are returned", mandatoryReturns},
		{"requests are answered by direct reply-to", directReplyTo},
		{"exclusive queues are locked for others", exclusiveQueues},
		{"a missing queue costs the channel only", missingQueue},
		{"deleting a queue cancels its consumer", cancelNotify},
		{"large messages arrive whole", largeMessages},
		{"an idle connection is kept by heartbeats", heartbeats},
	}
	for _, c := range checks {
		if err := c.check(connection); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		fmt.Println("  ", c.name)
	}
	return connection.Close()
}

func confirmedPublishes(connection *amqp.Connection) error {
	channel, err := connection.Channel()
	if err != nil {
		return err
	}
	exchange, queue := unique("exchange"), unique("queue")
	if err := channel.ExchangeDeclare(exchange, "topic", true, false, false, false, nil); err != nil {
		return err
	}
	if _, err := channel.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		return err
	}
	if err := channel.QueueBind(queue, "order.*", exchange, false, nil); err != nil {
		return err
	}
	if err := publishConfirmed(channel, exchange, "order.new", 100); err != nil {
		return err
	}

	consumer, err := connection.Channel()
	if err != nil {
		return err
	}
	if err := consumer.Qos(10, 0, false); err != nil {
		return err
	}
	deliveries, err := consumer.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for number := range 100 {
		delivery, err := next(deliveries)
		if err != nil {
			return err
		}
		if string(delivery.Body) != strconv.Itoa(number) {
			return fmt.Errorf("expected %d, got %s", number, delivery.Body)
		}
		if err := delivery.Ack(false); err != nil {
			return err
		}
	}
	if err := consumer.Close(); err != nil {
		return err
	}
	left, err := channel.QueueDelete(queue, false, false, false)
	if err != nil || left != 0 {
		return fmt.Errorf("%d messages were left: %w", left, err)
	}
	return channel.ExchangeDelete(exchange, false, false)
}

// publishConfirmed publishes the numbers below count and waits for each of their confirms.
func publishConfirmed(channel *amqp.Channel, exchange, key string, count int) error {
	if err := channel.Confirm(false); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	var confirms []*amqp.DeferredConfirmation
	for number := range count {
		message := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(strconv.Itoa(number))}
		confirm, err := channel.PublishWithDeferredConfirmWithContext(ctx, exchange, key, true, false, message)
		if err != nil {
			return err
		}
		confirms = append(confirms, confirm)
	}
	for number, confirm := range confirms {
		if acked, err := confirm.WaitContext(ctx); err != nil || !acked {
			return fmt.Errorf("message %d was not confirmed: %w", number, err)
		}
	}
	return nil
}

func nackedMessages(connection *amqp.Connection) error {
	channel, queue, err := ownQueue(connection)
	if err != nil {
		return err
	}
	if err := publishConfirmed(channel, "", queue, 2); err != nil {
		return err
	}
	steps := []struct {
		body        string
		redelivered bool
		settle      func(amqp.Delivery) error
	}{
		{"0", false, func(d amqp.Delivery) error { return d.Nack(false, true) }},
		{"0", true, func(d amqp.Delivery) error { return d.Reject(false) }},
		{"1", false, func(d amqp.Delivery) error { return d.Ack(false) }},
	}
	for _, step := range steps {
		delivery, ok, err := channel.Get(queue, false)
		if err != nil || !ok {
			return fmt.Errorf("no message %s: %w", step.body, err)
		}
		if string(delivery.Body) != step.body || delivery.Redelivered != step.redelivered {
			return fmt.Errorf("expected %v, got %s, redelivered %t", step, delivery.Body, delivery.Redelivered)
		}
		if err := step.settle(delivery); err != nil {
			return err
		}
	}
	if _, ok, err := channel.Get(queue, false); ok || err != nil {
		return fmt.Errorf("the queue is not empty: %w", err)
	}
	return nil
}

func mandatoryReturns(connection *amqp.Connection) error {
	channel, err := connection.Channel()
	if err != nil {
		return err
	}
	returns := channel.NotifyReturn(make(chan amqp.Return, 1))
	if err := publishConfirmed(channel, "amq.direct", unique("nobody"), 1); err != nil {
		return err
	}
	select {
	case returned := <-returns:
		if returned.ReplyCode != amqp.NoRoute || string(returned.Body) != "0" {
			return fmt.Errorf("returned otherwise: %v", returned)
		}
		return nil
	case <-time.After(deadline):
		return errors.New("the message was not returned")
	}
}

func directReplyTo(connection *amqp.Connection) error {
	server, queue, err := ownQueue(connection)
	if err != nil {
		return err
	}
	requests, err := server.Consume(queue, "", true, false, false, false, nil)
	if err != nil {
		return err
	}
	client, err := connection.Channel()
	if err != nil {
		return err
	}
	answers, err := client.Consume("amq.rabbitmq.reply-to", "", true, false, false, false, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	for number := range 3 {
		request := amqp.Publishing{
			ReplyTo:       "amq.rabbitmq.reply-to",
			CorrelationId: strconv.Itoa(number),
			Body:          []byte(strconv.Itoa(number)),
		}
		if err := client.PublishWithContext(ctx, "", queue, false, false, request); err != nil {
			return err
		}
	}
	for range 3 {
		request, err := next(requests)
		if err != nil {
			return err
		}
		answer := amqp.Publishing{CorrelationId: request.CorrelationId, Body: append([]byte("re: "), request.Body...)}
		if err := server.PublishWithContext(ctx, "", request.ReplyTo, false, false, answer); err != nil {
			return err
		}
	}
	for number := range 3 {
		answer, err := next(answers)
		if err != nil {
			return err
		}
		expected := strconv.Itoa(number)
		if answer.CorrelationId != expected || string(answer.Body) != "re: "+expected {
			return fmt.Errorf("answer %s: %s", answer.CorrelationId, answer.Body)
		}
	}
	return nil
}

func exclusiveQueues(connection *amqp.Connection) error {
	_, queue, err := ownQueue(connection)
	if err != nil {
		return err
	}
	other, err := amqp.Dial(os.Getenv("AMQP_URL"))
	if err != nil {
		return err
	}
	defer other.Close()
	stranger, err := other.Channel()
	if err != nil {
		return err
	}
	_, err = stranger.QueueDeclarePassive(queue, false, false, true, false, nil)
	return expectCode(err, amqp.ResourceLocked)
}

func missingQueue(connection *amqp.Connection) error {
	channel, err := connection.Channel()
	if err != nil {
		return err
	}
	_, err = channel.QueueDeclarePassive(unique("missing"), false, false, false, false, nil)
	if err := expectCode(err, amqp.NotFound); err != nil {
		return err
	}
	_, _, err = ownQueue(connection)
	return err
}

func cancelNotify(connection *amqp.Connection) error {
	channel, queue, err := ownQueue(connection)
	if err != nil {
		return err
	}
	cancelled := channel.NotifyCancel(make(chan string, 1))
	if _, err := channel.Consume(queue, "watcher", false, false, false, false, nil); err != nil {
		return err
	}
	other, err := connection.Channel()
	if err != nil {
		return err
	}
	if _, err := other.QueueDelete(queue, false, false, false); err != nil {
		return err
	}
	select {
	case tag := <-cancelled:
		if tag != "watcher" {
			return fmt.Errorf("cancelled: %s", tag)
		}
		return nil
	case <-time.After(deadline):
		return errors.New("no basic.cancel came")
	}
}

func largeMessages(connection *amqp.Connection) error {
	channel, queue, err := ownQueue(connection)
	if err != nil {
		return err
	}
	sent := make([]byte, 2_000_000)
	if _, err := rand.Read(sent); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	deliveries, err := channel.Consume(queue, "", true, false, false, false, nil)
	if err != nil {
		return err
	}
	if err := channel.PublishWithContext(ctx, "", queue, false, false, amqp.Publishing{Body: sent}); err != nil {
		return err
	}
	delivery, err := next(deliveries)
	if err != nil {
		return err
	}
	if !bytes.Equal(delivery.Body, sent) {
		return errors.New("the message came back otherwise")
	}
	return nil
}

// heartbeats leaves a connection idle for four intervals. The client gives up when no heartbeats come.
func heartbeats(*amqp.Connection) error {
	connection, err := amqp.DialConfig(os.Getenv("AMQP_URL"), amqp.Config{Heartbeat: time.Second})
	if err != nil {
		return err
	}
	closed := connection.NotifyClose(make(chan *amqp.Error, 1))
	select {
	case err := <-closed:
		return fmt.Errorf("lost: %w", err)
	case <-time.After(4 * time.Second):
	}
	if _, _, err := ownQueue(connection); err != nil {
		return err
	}
	return connection.Close()
}

// ownQueue opens a channel and declares an exclusive queue on it.
func ownQueue(connection *amqp.Connection) (*amqp.Channel, string, error) {
	channel, err := connection.Channel()
	if err != nil {
		return nil, "", err
	}
	queue, err := channel.QueueDeclare("", false, false, true, false, nil)
	return channel, queue.Name, err
}

func next(deliveries <-chan amqp.Delivery) (amqp.Delivery, error) {
	select {
	case delivery, ok := <-deliveries:
		if !ok {
			return delivery, errors.New("the consumer was cancelled")
		}
		return delivery, nil
	case <-time.After(deadline):
		return amqp.Delivery{}, errors.New("no delivery came")
	}
}

func expectCode(err error, code int) error {
	var refusal *amqp.Error
	if !errors.As(err, &refusal) || refusal.Code != code {
		return fmt.Errorf("expected %d, got %w", code, err)
	}
	return nil
}

func unique(name string) string {
	return fmt.Sprintf("go.%s.%s", name, rand.Text())
}

// version is that of the client library.
func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == "github.com/rabbitmq/amqp091-go" {
			return dependency.Version
		}
	}
	return "of unknown version"
}
