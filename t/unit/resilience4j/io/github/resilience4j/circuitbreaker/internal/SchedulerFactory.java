package io.github.resilience4j.circuitbreaker.internal;

import java.util.concurrent.ScheduledExecutorService;

/**
 * Stands before the library's class of this name on the class path, so that
 * its timers run on the trace's time.
 */
public class SchedulerFactory {
    private static final SchedulerFactory INSTANCE = new SchedulerFactory();
    private static ScheduledExecutorService scheduler;

    public static void set(ScheduledExecutorService s) {
        scheduler = s;
    }

    public static SchedulerFactory getInstance() {
        return INSTANCE;
    }

    public ScheduledExecutorService getScheduler() {
        return scheduler;
    }
}
