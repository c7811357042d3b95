// What an amqplib program does all day, against the broker of AMQP_URL.

'use strict';

const amqp = require('amqplib');
const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { once } = require('node:events');
const fs = require('node:fs');
const path = require('node:path');

const URL = process.env.AMQP_URL;
const DEADLINE_MILLISECONDS = 30000;

const unique = (name) => `amqplib.${name}.${crypto.randomUUID()}`;

const withHeartbeat = (seconds) => `${URL}${URL.includes('?') ? '&' : '?'}heartbeat=${seconds}`;

/** Fails when `promise` is not settled in time. */
async function inTime(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not in time: ${what}`)), DEADLINE_MILLISECONDS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** The error that closes a channel while `action` runs on it. Both the action and the channel report it. */
async function closingError(channel, action) {
  const closed = once(channel, 'error');
  await assert.rejects(action());
  const [error] = await inTime('the channel is closed', closed);
  return error;
}

async function confirmedPublishesAreConsumedInOrder(connection) {
  const [exchange, queue] = [unique('exchange'), unique('queue')];
  const channel = await connection.createConfirmChannel();
  await channel.assertExchange(exchange, 'topic', { durable: true });
  await channel.assertQueue(queue, { durable: true });
  await channel.bindQueue(queue, exchange, 'order.*');
  for (let number = 0; number < 100; number++) {
    channel.publish(exchange, 'order.new', Buffer.from(String(number)), { persistent: true });
  }
  await inTime('confirms', channel.waitForConfirms());
  assert.equal((await channel.checkQueue(queue)).messageCount, 100);

  const consumer = await connection.createChannel();
  await consumer.prefetch(10);
  const bodies = [];
  await inTime('a hundred messages', new Promise((resolve, reject) => {
    consumer.consume(queue, (message) => {
      bodies.push(Number(message.content));
      consumer.ack(message);
      if (bodies.length === 100) resolve();
    }).catch(reject);
  }));
  assert.deepEqual(bodies, Array.from({ length: 100 }, (_, number) => number));
  await consumer.close();
  await channel.deleteQueue(queue);
  await channel.deleteExchange(exchange);
}

async function nackedMessagesComeBackFlagged(connection) {
  const channel = await connection.createConfirmChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  channel.sendToQueue(queue, Buffer.from('first'));
  channel.sendToQueue(queue, Buffer.from('second'));
  await inTime('confirms', channel.waitForConfirms());
  const seen = [];
  const take = async (settle) => {
    const message = await channel.get(queue);
    seen.push([message.content.toString(), message.fields.redelivered]);
    settle(message);
  };
  await take((message) => channel.nack(message, false, true));
  await take((message) => channel.reject(message, false));
  await take((message) => channel.ack(message));
  assert.deepEqual(seen, [['first', false], ['first', true], ['second', false]]);
  assert.equal(await channel.get(queue), false);
}

async function unroutableMandatoryMessagesAreReturned(connection) {
  const channel = await connection.createConfirmChannel();
  const returned = once(channel, 'return');
  channel.publish('amq.direct', unique('nobody'), Buffer.from('lost'), { mandatory: true });
  const [message] = await inTime('a returned message', returned);
  assert.equal(message.fields.replyCode, 312);
  assert.equal(message.fields.replyText, 'NO_ROUTE');
  assert.equal(message.content.toString(), 'lost');
  await inTime('its confirm', channel.waitForConfirms());
}

async function requestsAreAnsweredByDirectReplyTo(connection) {
  const serverConnection = await amqp.connect(URL);
  const server = await serverConnection.createChannel();
  const { queue } = await server.assertQueue('', { autoDelete: true });
  await server.consume(queue, (request) => {
    const { replyTo, correlationId } = request.properties;
    const square = Number(request.content) ** 2;
    server.sendToQueue(replyTo, Buffer.from(String(square)), { correlationId });
    server.ack(request);
  });

  const client = await connection.createChannel();
  const answers = {};
  await inTime('three answers', new Promise((resolve, reject) => {
    client.consume('amq.rabbitmq.reply-to', (answer) => {
      answers[answer.properties.correlationId] = answer.content.toString();
      if (Object.keys(answers).length === 3) resolve();
    }, { noAck: true }).then(() => {
      for (const number of [1, 2, 3]) {
        const options = { replyTo: 'amq.rabbitmq.reply-to', correlationId: String(number) };
        client.sendToQueue(queue, Buffer.from(String(number)), options);
      }
    }).catch(reject);
  }));
  assert.deepEqual(answers, { 1: '1', 2: '4', 3: '9' });
  await serverConnection.close();
}

async function exclusiveQueuesAreLockedForOthers(connection) {
  const channel = await connection.createChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  const other = await amqp.connect(URL);
  const stranger = await other.createChannel();
  const error = await closingError(stranger, () => stranger.checkQueue(queue));
  assert.equal(error.code, 405);
  await other.close();
}

async function aMissingQueueCostsTheChannelOnly(connection) {
  const channel = await connection.createChannel();
  const error = await closingError(channel, () => channel.checkQueue(unique('missing')));
  assert.equal(error.code, 404);
  const next = await connection.createChannel();
  await next.assertQueue('', { exclusive: true });
}

async function deletingAQueueCancelsItsConsumer(connection) {
  const channel = await connection.createChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  await inTime('basic.cancel', new Promise((resolve, reject) => {
    channel.consume(queue, (message) => {
      if (message === null) resolve();
    }).then(async () => {
      const other = await connection.createChannel();
      await other.deleteQueue(queue);
    }).catch(reject);
  }));
}

async function largeMessagesArriveWhole(connection) {
  const channel = await connection.createConfirmChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  const sent = crypto.randomBytes(2000000);
  channel.sendToQueue(queue, sent);
  await inTime('its confirm', channel.waitForConfirms());
  const message = await channel.get(queue, { noAck: true });
  assert.ok(message.content.equals(sent));
}

async function anIdleConnectionIsKeptByHeartbeats() {
  const connection = await amqp.connect(withHeartbeat(1));
  const channel = await connection.createChannel();
  // Four intervals; amqplib answers heartbeats by itself, and gives up when none come.
  let lost = null;
  connection.on('error', (error) => { lost = error; });
  await new Promise((resolve) => { setTimeout(resolve, 4000); });
  assert.equal(lost, null);
  await channel.assertQueue('', { exclusive: true });
  await connection.close();
}

/** The version of the client. Its package does not export its own description, so that is read as a file. */
function installedVersion() {
  const description = path.join(process.env.NODE_PATH, 'amqplib', 'package.json');
  return JSON.parse(fs.readFileSync(description)).version;
}

async function main() {
  const connection = await amqp.connect(URL);
  const checks = [
    confirmedPublishesAreConsumedInOrder,
    nackedMessagesComeBackFlagged,
    unroutableMandatoryMessagesAreReturned,
    requestsAreAnsweredByDirectReplyTo,
    exclusiveQueuesAreLockedForOthers,
    aMissingQueueCostsTheChannelOnly,
    deletingAQueueCancelsItsConsumer,
    largeMessagesArriveWhole,
    anIdleConnectionIsKeptByHeartbeats,
  ];
  for (const check of checks) {
    await check(connection);
    console.log(`   ${check.name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)}`);
  }
  await connection.close();
  console.log(`ok amqplib ${installedVersion()}`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
