"""Scenarios with Eclipse Paho against a running broker: scenarios.py URL VERSION [options].

URL is mqtt://, mqtts://, ws:// or wss://; VERSION is 3 (MQTT 3.1), 4 (3.1.1) or 5. Prints one line per scenario and ends with a status other
than 0 at the first that fails. Waits for events with one deadline; does not sleep. That a message
does not arrive is shown by a later one on the same path that does.
"""

import argparse
import queue
import socket
import ssl
import sys
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

DEADLINE = 30

parser = argparse.ArgumentParser()
parser.add_argument("url", type=urlsplit)
parser.add_argument("version", type=int)
parser.add_argument("--ca", help="whom to trust")
parser.add_argument("--cert", help="the client's certificate")
parser.add_argument("--key", help="its key")
parser.add_argument("--user")
parser.add_argument("--password")
parser.add_argument("--try", dest="is_try", action="store_true",
                    help="no scenario: connect, and print the answer or the error")
OPTIONS = parser.parse_args()
VERSION = OPTIONS.version
IS_5 = VERSION == 5


def paho_client(name, **args):
    """A Paho client, not yet connected, as the options ask."""
    is_ws = OPTIONS.url.scheme in ("ws", "wss")
    made = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id=name,
        protocol=VERSION,
        transport="websockets" if is_ws else "tcp",
        **args,
    )
    if is_ws:
        made.ws_set_options(path=OPTIONS.url.path or "/mqtt")
    if OPTIONS.url.scheme in ("mqtts", "wss"):
        made.tls_set(OPTIONS.ca, OPTIONS.cert, OPTIONS.key)
    if OPTIONS.user is not None:
        made.username_pw_set(OPTIONS.user, OPTIONS.password)
    return made


def try_to_connect():
    """One line: `connack CODE`, `ended` or `tls REASON`."""
    answers = queue.Queue()
    paho = paho_client("try")
    paho.on_connect = lambda _c, _u, _f, code, _p: answers.put(f"connack {code.value}")
    paho.on_connect_fail = lambda _c, _u: answers.put("ended")
    paho.on_disconnect = lambda _c, _u, _f, _code, _p: answers.put("ended")
    try:
        paho.connect(OPTIONS.url.hostname, OPTIONS.url.port)
    except ssl.SSLError as error:
        return f"tls {error.reason}"
    except (OSError, mqtt.WebsocketConnectionError) as error:
        return f"ended {error}"
    paho.loop_start()
    return answers.get(timeout=DEADLINE)


if OPTIONS.is_try:
    print(try_to_connect())
    sys.exit(0)


class Client:
    """A Paho client whose callbacks fill queues."""

    def __init__(self, name, clean=True, will=None, expiry=0, connect=None, alive=60):
        args = {} if IS_5 else {"clean_session": clean}
        self.paho = paho_client(name, **args)
        self.connected = queue.Queue()
        self.messages = queue.Queue()
        self.acks = queue.Queue()
        self.published = queue.Queue()
        self.ended = queue.Queue()
        self.paho.on_connect = lambda _c, _u, flags, code, props: self.connected.put(
            (flags, code, props)
        )
        self.paho.on_message = lambda _c, _u, message: self.messages.put(message)
        self.paho.on_subscribe = lambda _c, _u, _mid, codes, _p: self.acks.put(codes)
        self.paho.on_unsubscribe = lambda _c, _u, _mid, codes, _p: self.acks.put(codes)
        self.paho.on_publish = lambda _c, _u, mid, code, _p: self.published.put((mid, code))
        self.paho.on_disconnect = lambda _c, _u, _f, code, _p: self.ended.put(code)
        self.paho.max_inflight_messages_set(1000)
        if will:
            self.paho.will_set(**will)
        args = {}
        if IS_5:
            properties = Properties(PacketTypes.CONNECT)
            if expiry:
                properties.SessionExpiryInterval = expiry
            for key, value in (connect or {}).items():
                setattr(properties, key, value)
            args = {"clean_start": clean, "properties": properties}
        self.paho.connect(OPTIONS.url.hostname, OPTIONS.url.port, alive, **args)
        self.paho.loop_start()
        flags, code, self.properties = self.connected.get(timeout=DEADLINE)
        assert code == 0, code
        self.present = flags.session_present

    def subscribe(self, *args, **kwargs):
        self.paho.subscribe(*args, **kwargs)
        return [code.value for code in self.acks.get(timeout=DEADLINE)]

    def unsubscribe(self, topic):
        self.paho.unsubscribe(topic)
        return [code.value for code in self.acks.get(timeout=DEADLINE)]

    def publish(self, topic, payload, qos=0, retain=False, **properties):
        args = {}
        if properties:
            args["properties"] = Properties(PacketTypes.PUBLISH)
            for key, value in properties.items():
                setattr(args["properties"], key, value)
        mid = self.paho.publish(topic, payload, qos, retain, **args).mid
        got, code = self.published.get(timeout=DEADLINE)
        assert got == mid and (not IS_5 or qos == 0 or code.value < 0x80), (got, mid, code)

    def message(self):
        return self.messages.get(timeout=DEADLINE)

    def text(self):
        return self.message().payload.decode()

    def disconnect(self):
        self.paho.disconnect()
        self.ended.get(timeout=DEADLINE)
        self.paho.loop_stop()

    def vanish(self):
        """Ends the connection without a DISCONNECT and does not come back."""
        self.paho.loop_stop()
        # Paho's WebSocket has none.
        if hasattr(self.paho.socket(), "shutdown"):
            self.paho.socket().shutdown(socket.SHUT_RDWR)
        self.paho.socket().close()


def every_qos_to_every_qos():
    publisher = Client(f"qos-from-{VERSION}")
    for wanted in (0, 1, 2):
        subscriber = Client(f"qos-to-{wanted}")
        assert subscriber.subscribe(f"qos/{wanted}", wanted) == [wanted]
        for sent in (0, 1, 2):
            publisher.publish(f"qos/{wanted}", f"{sent}", sent)
            message = subscriber.message()
            assert message.payload.decode() == f"{sent}"
            assert message.qos == min(wanted, sent) and not message.retain
        subscriber.disconnect()
    publisher.disconnect()


def retained():
    publisher = Client("retained-from")
    for text in ("one", "two"):
        publisher.publish("retained", text, 1, True)
        late = Client(f"retained-{text}")
        late.subscribe("retained", 1)
        message = late.message()
        assert message.payload.decode() == text and message.retain
        late.disconnect()
    publisher.publish("retained", b"", 1, True)
    none = Client("retained-none")
    none.subscribe("retained", 1)
    publisher.publish("retained", "fence", 1)
    assert none.text() == "fence"
    none.disconnect()
    publisher.disconnect()


def wills():
    # The wills are retained: another version's run on the same broker finds them.
    base = f"wills/{VERSION}"
    watcher = Client("wills-watcher")
    watcher.subscribe(f"{base}/#", 1)
    for number in range(4):
        will = {"topic": f"{base}/{number}", "payload": "gone", "qos": 1, "retain": True}
        # Another identifier: the end of one connection and the begin of the next have no order.
        never = dict(will, topic=f"{base}/never")
        Client(f"wills-clean-{number}", will=never).disconnect()
        Client(f"wills-{number}", will=will).vanish()
        assert watcher.message().topic == f"{base}/{number}"
    late = Client("wills-late")
    late.subscribe(f"{base}/0", 1)
    assert late.message().retain
    late.disconnect()
    watcher.disconnect()


def persistent_session():
    publisher = Client("persistent-from")
    for number in range(4):
        name = f"persistent-{VERSION}-{number}"
        client = Client(name, clean=False, expiry=3600)
        assert not client.present
        client.subscribe(f"persistent/{number}", 2)
        client.disconnect()
        for index in range(20):
            publisher.publish(f"persistent/{number}", f"{index}", 1 + index % 2)
        client = Client(name, clean=False, expiry=3600)
        assert client.present == (VERSION > 3)
        # Paho tells of a QoS 2 message at PUBREL, so only messages of one QoS keep their order.
        got = [client.message() for _ in range(20)]
        for qos in (1, 2):
            texts = [message.payload.decode() for message in got if message.qos == qos]
            assert texts == [f"{index}" for index in range(qos - 1, 20, 2)], texts
        client.disconnect()
        Client(name, clean=True).disconnect()
    publisher.disconnect()


def take_over():
    for number in range(4):
        first = Client(f"taken-{number}")
        # Paho would connect again at once and take over in turn.
        first.paho.reconnect_delay_set(120, 120)
        second = Client(f"taken-{number}")
        first.ended.get(timeout=DEADLINE)
        first.paho.loop_stop()
        second.subscribe(f"taken/{number}", 1)
        second.publish(f"taken/{number}", "here", 1)
        assert second.text() == "here"
        second.disconnect()


def large_message():
    client = Client("large")
    client.subscribe("large", 1)
    payload = bytes(range(256)) * 2000
    client.publish("large", payload, 1)
    assert client.message().payload == payload
    client.disconnect()


def unsubscribe():
    client = Client("unsubscribe")
    client.subscribe([("u/a", 0), ("u/b", 0)])
    codes = client.unsubscribe("u/a")
    assert not IS_5 or codes == [0], codes
    codes = client.unsubscribe("u/none")
    assert not IS_5 or codes == [0x11], codes
    client.publish("u/a", "no longer")
    client.publish("u/b", "fence")
    assert client.text() == "fence"
    client.disconnect()


def keep_alive():
    client = Client("alive", alive=1)
    watcher = Client("alive-watcher")
    # Paho pings by itself; the broker's delayed will of another client measures the time.
    will = {"topic": "alive/will", "payload": "later"}
    if IS_5:
        will["properties"] = Properties(PacketTypes.WILLMESSAGE)
        will["properties"].WillDelayInterval = 4
    watcher.subscribe("alive/#", 0)
    Client("alive-clock", will=will, expiry=100).vanish()
    assert watcher.text() == "later"
    client.publish("alive/still", "here")
    assert watcher.text() == "here"
    assert client.ended.empty()
    client.disconnect()
    watcher.disconnect()


def shared_subscription():
    members = [Client(f"shared-{number}") for number in range(4)]
    for member in members:
        member.subscribe([("$share/g/shared/+", 1), ("fence", 1)])
    publisher = Client("shared-from")
    for number in range(80):
        publisher.publish(f"shared/{number}", f"{number}", 1)
    publisher.publish("fence", "fence", 1)
    got = []
    for member in members:
        before = len(got)
        while (text := member.text()) != "fence":
            got.append(int(text))
        assert len(got) > before, "a member got nothing"
        member.disconnect()
    assert sorted(got) == list(range(80))
    publisher.disconnect()


def assigned_client_id():
    client = Client("")
    assert client.properties.AssignedClientIdentifier
    client.disconnect()


def properties():
    subscriber = Client("properties-to")
    subscriber.subscribe("properties", 1)
    publisher = Client("properties-from")
    user = [("z", "1"), ("a", "2"), ("z", "3")]
    publisher.publish(
        "properties",
        "text",
        1,
        UserProperty=user,
        ResponseTopic="answers",
        CorrelationData=b"\x00\xff",
        ContentType="text/plain",
        PayloadFormatIndicator=1,
        MessageExpiryInterval=100,
    )
    got = subscriber.message().properties
    assert got.UserProperty == user
    assert got.ResponseTopic == "answers" and got.CorrelationData == b"\x00\xff"
    assert got.ContentType == "text/plain" and got.PayloadFormatIndicator == 1
    assert 90 <= got.MessageExpiryInterval <= 100
    subscriber.disconnect()
    publisher.disconnect()


def topic_alias():
    subscriber = Client("alias-to", connect={"TopicAliasMaximum": 3})
    subscriber.subscribe("alias/#", 1)
    publisher = Client("alias-from")
    publisher.publish("alias/a", "1", 1, TopicAlias=1)
    publisher.publish("", "2", 1, TopicAlias=1)
    first, second = subscriber.message(), subscriber.message()
    assert (first.payload, second.payload) == (b"1", b"2")
    assert first.topic == "alias/a"
    # Paho leaves it to the application to resolve an alias of the broker.
    alias = getattr(second.properties, "TopicAlias", None)
    assert second.topic == "alias/a" or alias == first.properties.TopicAlias
    subscriber.disconnect()
    publisher.disconnect()


def subscription_options():
    other = Client("options-other")
    client = Client("options")
    properties = Properties(PacketTypes.SUBSCRIBE)
    properties.SubscriptionIdentifier = 77
    options = SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True)
    client.subscribe("options", options=options, properties=properties)
    client.publish("options", "own", 1)
    other.publish("options", "other", 1, True)
    message = client.message()
    assert message.payload == b"other" and message.retain
    assert message.properties.SubscriptionIdentifier == [77]
    other.publish("options", b"", 1, True)
    client.disconnect()
    other.disconnect()


def receive_maximum():
    client = Client("quota", connect={"ReceiveMaximum": 2})
    client.subscribe("quota", 2)
    publisher = Client("quota-from")
    for number in range(40):
        publisher.publish("quota", f"{number}", 2)
    assert [client.text() for _ in range(40)] == [f"{number}" for number in range(40)]
    client.disconnect()
    publisher.disconnect()


def maximum_packet_size():
    client = Client("size", connect={"MaximumPacketSize": 200})
    client.subscribe("size", 2)
    publisher = Client("size-from")
    for number in range(20):
        publisher.publish("size", f"{number}", number % 3)
        publisher.publish("size", b"x" * 1000, number % 3)
    got = sorted(int(client.text()) for _ in range(20))
    assert got == list(range(20)), got
    client.disconnect()
    publisher.disconnect()


SCENARIOS = [
    every_qos_to_every_qos,
    retained,
    wills,
    persistent_session,
    take_over,
    large_message,
    unsubscribe,
    shared_subscription,
]
if IS_5:
    SCENARIOS += [
        keep_alive,
        assigned_client_id,
        properties,
        topic_alias,
        subscription_options,
        receive_maximum,
        maximum_packet_size,
    ]

for scenario in SCENARIOS:
    scenario()
    print("ok", scenario.__name__, flush=True)
