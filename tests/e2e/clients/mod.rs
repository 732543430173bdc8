//! Foreign clients: other people's reading of the standard.

mod mosquitto;
mod rumqttc_v4;
mod rumqttc_v5;
mod scripts;
