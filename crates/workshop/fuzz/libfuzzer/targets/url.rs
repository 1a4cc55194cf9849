#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    partitura_amqp::fuzzing::url(bytes);
    partitura_kafka::fuzzing::url(bytes);
    partitura_nats::fuzzing::url(bytes);
    partitura_pulsar::fuzzing::url(bytes);
    partitura_rabbitmq::fuzzing::url(bytes);
    partitura_store_postgres::fuzzing::url(bytes);
});
