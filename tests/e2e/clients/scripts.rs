//! Clients of other languages; their scenarios are scripts below `tests/clients`.

use crate::harness::broker::Broker;
use crate::harness::on_shards;
use crate::harness::tools::{Tool, bounded, mqttjs, python, succeed};

on_shards!(paho_python, mqtt_js);

fn paho_python(broker: &Broker) {
    if !Tool::Paho.is_present() {
        return;
    }
    for version in ["3", "4", "5"] {
        let mut command = bounded(python());
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/paho/scenarios.py"));
        command.args([&format!("mqtt://{}", broker.addr), version]);
        succeed(command);
    }
}

fn mqtt_js(broker: &Broker) {
    if !Tool::MqttJs.is_present() {
        return;
    }
    for version in ["3", "4", "5"] {
        let mut command = bounded("node");
        command.current_dir(mqttjs()).arg("scenarios.js");
        command.args([&format!("mqtt://{}", broker.addr), version]);
        succeed(command);
    }
}
