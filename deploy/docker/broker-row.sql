-- Only the row that the gateway itself has entered: what people have entered stays.
UPDATE mqtt_servers SET host = 'mosquitto' WHERE host = '127.0.0.1' AND port = 1883;
