// Scenarios with mqtt.js against a running broker: scenarios.js URL VERSION [options].
//
// URL is mqtt://, mqtts://, ws:// or wss://; VERSION is 3 (MQTT 3.1), 4 (3.1.1) or 5. Prints one line per scenario and ends with a status other
// than 0 at the first that fails. Waits for events; the caller bounds the time of the whole. That a
// message does not arrive is shown by a later one on the same path that does.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import mqtt from 'mqtt';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    // Whom to trust, the client's certificate and its key.
    ca: { type: 'string' },
    cert: { type: 'string' },
    key: { type: 'string' },
    user: { type: 'string' },
    password: { type: 'string' },
    // No scenario: connect, and print the answer or the error.
    try: { type: 'boolean' },
  },
});
const url = positionals[0];
const version = Number(positionals[1]);
const credentials = { username: options.user, password: options.password };
for (const name of ['ca', 'cert', 'key']) {
  if (options[name]) credentials[name] = readFileSync(options[name]);
}
const is5 = version === 5;

/** An mqtt.js client whose messages are queued. */
class Client {
  static async connect(clientId, options = {}) {
    const self = new Client();
    self.messages = [];
    self.waiting = [];
    self.mqtt = mqtt.connect(url, {
      ...credentials,
      clientId,
      protocolVersion: version,
      protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
      reconnectPeriod: 0,
      ...options,
    });
    self.mqtt.on('message', (topic, payload, packet) => {
      const message = { topic, payload, text: payload.toString(), packet };
      const next = self.waiting.shift();
      if (next) next(message);
      else self.messages.push(message);
    });
    const [connack] = await once(self.mqtt, 'connect');
    self.connack = connack;
    // What a broken connection has to say is its end; scenarios wait for 'close'.
    self.mqtt.on('error', () => {});
    return self;
  }

  message() {
    const first = this.messages.shift();
    return first ? Promise.resolve(first) : new Promise((resolve) => this.waiting.push(resolve));
  }

  subscribe(filter, options) {
    return this.mqtt.subscribeAsync(filter, options);
  }

  publish(topic, payload, options) {
    return this.mqtt.publishAsync(topic, payload, options);
  }

  disconnect() {
    return this.mqtt.endAsync();
  }

  /** Ends the connection without a DISCONNECT. */
  async vanish() {
    const closed = once(this.mqtt, 'close');
    this.mqtt.stream.destroy();
    await closed;
  }
}

/** One line: `connack CODE`, `ended` or `error CODE`. */
function tryToConnect() {
  const settings = { ...credentials, protocolVersion: version, reconnectPeriod: 0 };
  const client = mqtt.connect(url, settings);
  return new Promise((resolve) => {
    client.on('connect', () => resolve('connack 0'));
    client.on('error', (error) => {
      resolve(typeof error.code === 'number' ? `connack ${error.code}` : `error ${error.code ?? error.message}`);
    });
    client.on('close', () => resolve('ended'));
  });
}

async function everyQosToEveryQos() {
  const publisher = await Client.connect('qos-from');
  for (const wanted of [0, 1, 2]) {
    const subscriber = await Client.connect(`qos-to-${wanted}`);
    const [granted] = await subscriber.subscribe(`qos/${wanted}`, { qos: wanted });
    assert.equal(granted.qos, wanted);
    for (const sent of [0, 1, 2]) {
      await publisher.publish(`qos/${wanted}`, `${sent}`, { qos: sent });
      const { text, packet } = await subscriber.message();
      assert.equal(text, `${sent}`);
      assert.equal(packet.qos, Math.min(wanted, sent));
      assert.equal(packet.retain, false);
    }
    await subscriber.disconnect();
  }
  await publisher.disconnect();
}

async function retained() {
  const publisher = await Client.connect('retained-from');
  for (const text of ['one', 'two']) {
    await publisher.publish('retained', text, { qos: 1, retain: true });
    const late = await Client.connect(`retained-${text}`);
    await late.subscribe('retained', { qos: 1 });
    const message = await late.message();
    assert.equal(message.text, text);
    assert.equal(message.packet.retain, true);
    await late.disconnect();
  }
  await publisher.publish('retained', '', { qos: 1, retain: true });
  const none = await Client.connect('retained-none');
  await none.subscribe('retained', { qos: 1 });
  await publisher.publish('retained', 'fence', { qos: 1 });
  assert.equal((await none.message()).text, 'fence');
  await none.disconnect();
  await publisher.disconnect();
}

async function wills() {
  const watcher = await Client.connect('wills-watcher');
  await watcher.subscribe('wills/#', { qos: 1 });
  for (let number = 0; number < 4; number += 1) {
    const will = { topic: `wills/${number}`, payload: Buffer.from('gone'), qos: 1, retain: false };
    const never = { ...will, topic: 'wills/never' };
    // Another identifier: the end of one connection and the begin of the next have no order.
    await (await Client.connect(`wills-clean-${number}`, { will: never })).disconnect();
    await (await Client.connect(`wills-${number}`, { will })).vanish();
    const message = await watcher.message();
    assert.equal(message.topic, `wills/${number}`);
    assert.equal(message.packet.qos, 1);
  }
  await watcher.disconnect();
}

async function persistentSession() {
  const publisher = await Client.connect('persistent-from');
  const keep = { clean: false, properties: is5 ? { sessionExpiryInterval: 3600 } : undefined };
  for (let number = 0; number < 4; number += 1) {
    const name = `persistent-${number}`;
    const before = await Client.connect(name, keep);
    assert.ok(!before.connack.sessionPresent);
    await before.subscribe(`persistent/${number}`, { qos: 2 });
    await before.disconnect();
    for (let index = 0; index < 20; index += 1) {
      await publisher.publish(`persistent/${number}`, `${index}`, { qos: 1 + (index % 2) });
    }
    const after = await Client.connect(name, keep);
    if (version > 3) assert.equal(after.connack.sessionPresent, true);
    // A QoS 2 message is told of at PUBREL, so only messages of one QoS keep their order.
    const got = [];
    for (let index = 0; index < 20; index += 1) got.push(await after.message());
    for (const qos of [1, 2]) {
      const texts = got.filter((message) => message.packet.qos === qos).map(({ text }) => Number(text));
      assert.deepEqual(texts, Array.from({ length: 10 }, (_, index) => 2 * index + qos - 1));
    }
    await after.disconnect();
    await (await Client.connect(name, { clean: true })).disconnect();
  }
  await publisher.disconnect();
}

async function takeOver() {
  for (let number = 0; number < 4; number += 1) {
    const first = await Client.connect(`taken-${number}`);
    const closed = once(first.mqtt, 'close');
    const second = await Client.connect(`taken-${number}`);
    await closed;
    await second.subscribe(`taken/${number}`, { qos: 1 });
    await second.publish(`taken/${number}`, 'here', { qos: 1 });
    assert.equal((await second.message()).text, 'here');
    await second.disconnect();
  }
}

async function largeMessage() {
  const client = await Client.connect('large');
  await client.subscribe('large', { qos: 1 });
  const payload = Buffer.alloc(500_000, 'abcdefg');
  await client.publish('large', payload, { qos: 1 });
  assert.ok((await client.message()).payload.equals(payload));
  await client.disconnect();
}

async function unsubscribe() {
  const client = await Client.connect('unsubscribe');
  await client.subscribe(['u/a', 'u/b'], { qos: 0 });
  await client.mqtt.unsubscribeAsync('u/a');
  await client.publish('u/a', 'no longer');
  await client.publish('u/b', 'fence');
  assert.equal((await client.message()).text, 'fence');
  await client.disconnect();
}

async function sharedSubscription() {
  const members = [];
  for (let number = 0; number < 4; number += 1) {
    const member = await Client.connect(`shared-${number}`);
    await member.subscribe(['$share/g/shared/+', 'fence'], { qos: 1 });
    members.push(member);
  }
  const publisher = await Client.connect('shared-from');
  for (let number = 0; number < 80; number += 1) {
    await publisher.publish(`shared/${number}`, `${number}`, { qos: 1 });
  }
  await publisher.publish('fence', 'fence', { qos: 1 });
  const got = [];
  for (const member of members) {
    const before = got.length;
    for (;;) {
      const { text } = await member.message();
      if (text === 'fence') break;
      got.push(Number(text));
    }
    assert.ok(got.length > before, 'a member got nothing');
    await member.disconnect();
  }
  assert.deepEqual(got.sort((a, b) => a - b), Array.from({ length: 80 }, (_, number) => number));
  await publisher.disconnect();
}

async function assignedClientId() {
  const client = await Client.connect('');
  assert.ok(client.connack.properties.assignedClientIdentifier.length > 0);
  await client.disconnect();
}

async function properties() {
  const subscriber = await Client.connect('properties-to');
  await subscriber.subscribe('properties', { qos: 1, properties: { subscriptionIdentifier: 77 } });
  const publisher = await Client.connect('properties-from');
  const sent = {
    payloadFormatIndicator: true,
    messageExpiryInterval: 100,
    responseTopic: 'answers',
    correlationData: Buffer.from([0, 255]),
    contentType: 'text/plain',
    userProperties: { z: ['1', '3'], a: '2' },
  };
  await publisher.publish('properties', 'text', { qos: 1, properties: sent });
  const got = { ...(await subscriber.message()).packet.properties };
  assert.ok(got.messageExpiryInterval >= 90 && got.messageExpiryInterval <= 100);
  assert.deepEqual({ ...got.userProperties }, sent.userProperties);
  assert.ok(got.correlationData.equals(sent.correlationData));
  assert.equal(got.responseTopic, 'answers');
  assert.equal(got.contentType, 'text/plain');
  assert.equal(got.payloadFormatIndicator, true);
  assert.equal(got.subscriptionIdentifier, 77);
  await subscriber.disconnect();
  await publisher.disconnect();
}

async function topicAlias() {
  const subscriber = await Client.connect('alias-to', { properties: { topicAliasMaximum: 5 } });
  await subscriber.subscribe('alias/#', { qos: 1 });
  const publisher = await Client.connect('alias-from', { autoAssignTopicAlias: true });
  for (let number = 0; number < 40; number += 1) {
    await publisher.publish(`alias/${number % 4}`, `${number}`, { qos: 1 });
    const message = await subscriber.message();
    assert.equal(message.topic, `alias/${number % 4}`);
    assert.equal(message.text, `${number}`);
  }
  await subscriber.disconnect();
  await publisher.disconnect();
}

async function subscriptionOptions() {
  const other = await Client.connect('options-other');
  const client = await Client.connect('options');
  await other.publish('options', 'kept', { qos: 1, retain: true });
  await client.subscribe('options', { qos: 1, nl: true, rap: true, rh: 2 });
  await client.publish('options', 'own', { qos: 1 });
  await other.publish('options', 'other', { qos: 1, retain: true });
  const message = await client.message();
  assert.equal(message.text, 'other');
  assert.equal(message.packet.retain, true);
  await client.disconnect();
  await other.publish('options', '', { qos: 1, retain: true });
  await other.disconnect();
}

async function receiveMaximum() {
  const client = await Client.connect('quota', { properties: { receiveMaximum: 2 } });
  await client.subscribe('quota', { qos: 2 });
  const publisher = await Client.connect('quota-from');
  for (let number = 0; number < 40; number += 1) {
    await publisher.publish('quota', `${number}`, { qos: 2 });
  }
  for (let number = 0; number < 40; number += 1) {
    assert.equal((await client.message()).text, `${number}`);
  }
  await client.disconnect();
  await publisher.disconnect();
}

async function maximumPacketSize() {
  const client = await Client.connect('size', { properties: { maximumPacketSize: 200 } });
  await client.subscribe('size', { qos: 2 });
  const publisher = await Client.connect('size-from');
  for (let number = 0; number < 20; number += 1) {
    await publisher.publish('size', `${number}`, { qos: number % 3 });
    await publisher.publish('size', Buffer.alloc(1000), { qos: number % 3 });
  }
  const got = [];
  for (let number = 0; number < 20; number += 1) got.push(Number((await client.message()).text));
  assert.deepEqual(got.sort((a, b) => a - b), Array.from({ length: 20 }, (_, number) => number));
  await client.disconnect();
  await publisher.disconnect();
}

const scenarios = [
  everyQosToEveryQos,
  retained,
  wills,
  persistentSession,
  takeOver,
  largeMessage,
  unsubscribe,
  sharedSubscription,
];
if (is5) {
  scenarios.push(
    assignedClientId,
    properties,
    topicAlias,
    subscriptionOptions,
    receiveMaximum,
    maximumPacketSize,
  );
}

if (options.try) {
  console.log(await tryToConnect());
  process.exit(0);
}

for (const scenario of scenarios) {
  console.log('begin', scenario.name);
  await scenario();
  console.log('ok', scenario.name);
}
