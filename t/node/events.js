/*
 * node events.js: reads Kafka messages, one line of JSON each, by the SDK of
 * CloudEvents for JavaScript, strictly, and writes for each what it has read,
 * and what it reads in the message that it makes of that.
 */

'use strict';

const readline = require('node:readline');
const { Kafka } = require('cloudevents');


/* An event without what the SDK adds of its own: the message's key. */

function read(message) {
    const event = Kafka.toEvent(message);

    event.validate();

    const { partitionkey, ...attributes } = event.toJSON();

    return { event, attributes };
}


const lines = readline.createInterface({ input: process.stdin });

lines.on('line', (line) => {
    const first = read(JSON.parse(line));
    const again = read(Kafka.binary(first.event));

    console.log(JSON.stringify([first.attributes, again.attributes]));
});
