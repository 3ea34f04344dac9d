/*
 * node asyncapi.js FILE: what AsyncAPI's own parser says of a description, but
 * for what it only recommends. The status is 1 if it finds anything.
 */

'use strict';

const fs = require('fs');
const { DiagnosticSeverity, Parser } = require('@asyncapi/parser');


async function main(file) {
    const { document, diagnostics } =
        await new Parser().parse(fs.readFileSync(file, 'utf8'));
    const problems = diagnostics.filter(
        (one) => one.severity <= DiagnosticSeverity.Warning);

    for (const problem of problems) {
        console.log(`${problem.path.join('.')}: ${problem.message}`);
    }

    return document === undefined || problems.length ? 1 : 0;
}


main(process.argv[2]).then((status) => process.exit(status));
