/*
 * node lint.js FILE: what Redocly's recommended rules say of an OpenAPI
 * description. The status is 1 if they find anything, be it a warning.
 */

'use strict';

const { createConfig, formatProblems, getTotals, lint } =
    require('@redocly/openapi-core');

const RULES = {
    /* a payment's id is a UUID, so that no path is both /capture/{paymentId}
     * and /{paymentId}/operations */
    'no-ambiguous-paths': 'off',
};


async function main(file) {
    const config = await createConfig({ extends: ['recommended'],
                                        rules: RULES });
    const problems = await lint({ ref: file, config });

    formatProblems(problems, { format: 'codeframe', version: '',
                               totals: getTotals(problems) });

    return problems.length ? 1 : 0;
}


main(process.argv[2]).then((status) => process.exit(status));
