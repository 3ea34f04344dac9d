/*
 * A client whose types openapi-typescript has made of the API's description
 * makes a payment: node pay.js URL, which prints what came of it as JSON.
 * TypeScript has compiled it with all checks, so that what is asked of the
 * answers is what the description says of them.
 */

import createClient from "openapi-fetch";
import type { components, paths } from "./payment";


/* what was wrong; text is nginx's own page about what is not HTTP */

function code(problem: components["schemas"]["Problem"] | string | undefined) {
    return typeof problem === "object" ? problem.code : problem;
}


async function main(baseUrl: string): Promise<void> {
    const client = createClient<paths>({ baseUrl });

    const made = await client.POST("/authorize", {
        params: { header: { "Idempotency-Key": '"typescript"' } },
        body: { merchantId: "M-1", amount: 1500, currency: "KRW" },
    });

    if (made.data === undefined) {
        throw new Error(code(made.error));
    }

    const path = { paymentId: made.data.paymentId };

    const captured = await client.POST("/capture/{paymentId}", {
        params: { path }, body: { merchantId: "M-1", amount: 1000 },
    });

    const found = await client.GET("/{paymentId}", {
        params: { path, query: { merchantId: "M-1" } },
    });

    const missing = await client.GET("/{paymentId}", {
        params: { path: { paymentId: "00000000-0000-7000-8000-000000000000" },
                  query: { merchantId: "M-1" } },
    });

    console.log(JSON.stringify({
        authorized: made.data.status,
        captured: captured.data?.status,
        amounts: [found.data?.amount, found.data?.capturedAmount],
        missing: code(missing.error),
    }));
}


main(process.argv[2] ?? "").catch((error) => {
    console.error(error);
    process.exit(1);
});
