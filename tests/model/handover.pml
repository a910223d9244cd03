/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hand-over of a guest between two hosts, with a connection that may break between any two
 * steps (what was sent and not yet read is lost) and a user who may cancel and may insist.
 * Checked in all interleavings:
 *   - never do both sides run the guest;
 *   - when both have come to rest, one runs it, or the source holds it stopped and complete.
 */
mtype = { STATE, READY, GO, RUNNING, ERROR };
chan to_dest = [2] of { mtype };
chan to_source = [2] of { mtype };

bool source_runs = true, dest_runs = false;
bool broken = false;
bool handed_over = false, source_has_state = true;
bool source_ended = false, dest_ended = false;

/* At any instant: both directions lose what is under way. */
active proctype network()
{
	if
	:: broken = true
	:: skip
	fi
}

inline send(c, m)
{
	if
	:: atomic { !broken -> c!m }
	:: broken -> skip
	fi
}

active proctype source()
{
	/* switchover: the guest stops, its state is sent */
	source_runs = false;
	send(to_dest, STATE);
	/* wait for READY: it comes, or the connection breaks, or time is over, or the user cancels */
	if
	:: atomic { !broken && to_source?[READY] -> to_source?READY };
	   handed_over = true;		/* before a byte of GO leaves */
	   if
	   :: atomic { !broken -> to_dest!GO };
	      if
	      :: atomic { !broken && to_source?[RUNNING] -> to_source?RUNNING }; source_has_state = false
	      :: atomic { !broken && to_source?[ERROR] -> to_source?ERROR };
		 handed_over = false; source_runs = true	/* it will never run there */
	      :: broken -> skip		/* unknown: stays stopped */
	      :: true -> broken = true	/* time is over: unknown too */
	      fi
	   :: broken -> skip		/* the socket took some of GO: unknown */
	   :: broken -> handed_over = false; source_runs = true	/* it took nothing */
	   fi
	:: true -> broken = true; source_runs = true	/* goes back: closes, resumes */
	fi;
	source_ended = true
}

active proctype dest()
{
	if
	:: atomic { !broken && to_dest?[STATE] -> to_dest?STATE };
	   if
	   :: send(to_source, READY);
	      if
	      :: atomic { !broken && to_dest?[GO] -> to_dest?GO };
		 dest_runs = true;
		 send(to_source, RUNNING)
	      :: broken -> skip		/* gives up, never runs */
	      :: send(to_source, ERROR)	/* cancelled here: the same, and it says so */
	      fi
	   :: true -> broken = true	/* refuses the state */
	   fi
	:: broken -> skip
	fi;
	dest_ended = true
}

ltl at_most_one { [] !(source_runs && dest_runs) }
ltl never_lost { [] ((source_ended && dest_ended) -> (source_runs || dest_runs || (handed_over && source_has_state))) }
ltl no_return { [] (dest_runs -> [] !source_runs) }
