//! Deliveries by real protocols: an HTTP receiver that misbehaves, and a mosquitto broker.

#[cfg(test)]
mod real {
    mod brokers;
    mod http;
    mod mqtt;
    mod receiver;
    mod support;
}
