/* rename: who may, in plain and sticky directories. */
#include "harness.h"

/* Both parents must be writable and searchable. */
static void parents(void)
{
	static const mode_t mode[] = {0777, 0773, 0775, 0776, 0770, 0771, 0772};

	for (int i = 0; i < 7; i++) {
		for (int into = 0; into < 2; into++) {
			bool ok = (mode[i] & 3) == 3;

			h_ctx("%s a directory of mode %04o", into ? "into" : "out of", mode[i]);
			REQUIRE_OK(mkdir("a", 0755));
			REQUIRE_OK(mkdir("b", 0755));
			REQUIRE_OK(h_touch("a/f"));
			REQUIRE_OK(chown("a/f", UA, GA));
			REQUIRE_OK(chmod("a", into ? 0777 : mode[i]));
			REQUIRE_OK(chmod("b", into ? mode[i] : 0777));
			AS(ALICE) {
				if (ok)
					EXPECT_OK(rename("a/f", "b/g"));
				else
					EXPECT_ERR(EACCES, rename("a/f", "b/g"));
			}
			EXPECT_EQ(ok ? 0 : 1, h_count("a"));
			EXPECT_EQ(ok ? 1 : 0, h_count("b"));
			h_rmtree(AT_FDCWD, "a");
			h_rmtree(AT_FDCWD, "b");
		}
	}
	h_ctx(NULL);
}

/* Moved to another parent, a directory's ".." changes: that needs the right to write it. */
static void dotdot(void)
{
	REQUIRE_OK(mkdir("a", 0777));
	REQUIRE_OK(mkdir("b", 0777));
	REQUIRE_OK(chmod("a", 0777));
	REQUIRE_OK(chmod("b", 0777));
	REQUIRE_OK(mkdir("a/d", 0755)); /* root's */
	AS(ALICE) {
		EXPECT_ERR(EACCES, rename("a/d", "b/d"));
		EXPECT_OK(rename("a/d", "a/e"));
		EXPECT_OK(rename("a/e", "a/d"));
		EXPECT_OK(mkdir("a/mine", 0555));
		EXPECT_ERR(EACCES, rename("a/mine", "b/mine"));
		EXPECT_OK(chmod("a/mine", 0755));
		EXPECT_OK(rename("a/mine", "b/mine"));
		EXPECT_ERR(EACCES, renameat2(AT_FDCWD, "b/mine", AT_FDCWD, "a/d", RENAME_EXCHANGE));
	}
	REQUIRE_OK(chmod("a/d", 0777));
	AS(ALICE) {
		EXPECT_OK(renameat2(AT_FDCWD, "b/mine", AT_FDCWD, "a/d", RENAME_EXCHANGE));
		EXPECT_OK(rename("b/mine", "a/e"));
	}
	h_rmtree(AT_FDCWD, "a");
	h_rmtree(AT_FDCWD, "b");
}

/*
 * In a sticky directory a name belongs to the owner of the directory and the owner of the file.
 * Alice acts; each of the two directories, the file and the one it replaces is hers or Bob's.
 */
static void sticky(void)
{
	FOR_TYPES(t, T_BIT(T_REG) | T_BIT(T_DIR) | T_BIT(T_FIFO) | T_BIT(T_LNK)) {
		for (unsigned who = 0; who < 16; who++) {
			uid_t from_dir = who & 1 ? UA : UB, to_dir = who & 2 ? UA : UB;
			uid_t file = who & 4 ? UA : UB, target = who & 8 ? UA : UB;
			bool out = from_dir == UA || file == UA,
			     over = to_dir == UA || target == UA;

			h_ctx("sticky: %s of %u in a directory of %u over one of %u in %u's",
			      h_type_name(t), file, from_dir, target, to_dir);
			REQUIRE_OK(mkdir("a", 0755));
			REQUIRE_OK(mkdir("b", 0755));
			REQUIRE_OK(h_make(t, "a/f", 0777));
			REQUIRE_OK(lchown("a/f", file, GB));
			REQUIRE_OK(h_make(t, "b/g", 0777));
			REQUIRE_OK(lchown("b/g", target, GB));
			REQUIRE_OK(chown("a", from_dir, GB));
			REQUIRE_OK(chown("b", to_dir, GB));
			REQUIRE_OK(chmod("a", 01777));
			REQUIRE_OK(chmod("b", 01777));
			AS(ALICE) {
				if (!(out && over)) {
					EXPECT_ERR2(EPERM, EACCES, rename("a/f", "b/g"));
					EXPECT_OK(h_exists("a/f"));
					EXPECT_ERR2(EPERM, EACCES,
						    renameat2(AT_FDCWD, "a/f", AT_FDCWD, "b/g",
							      RENAME_EXCHANGE));
				}
				if (out) { /* onto a free name only the source counts */
					EXPECT_OK(rename("a/f", "b/free"));
					EXPECT_OK(rename("b/free", file == UA || to_dir == UA
								       ? "a/f"
								       : "b/free"));
				} else {
					EXPECT_ERR2(EPERM, EACCES, rename("a/f", "b/free"));
					EXPECT_ERR2(EPERM, EACCES, rename("a/f", "a/free"));
				}
				if (out && over && (file == UA || to_dir == UA)) {
					EXPECT_OK(rename("a/f", "b/g"));
					EXPECT_ABSENT("a/f");
				}
			}
			h_rmtree(AT_FDCWD, "a");
			h_rmtree(AT_FDCWD, "b");
		}
	}
	h_ctx(NULL);
}

void area_renameperm(void)
{
	if (h_root()) {
		parents();
		dotdot();
		sticky();
		return;
	}
	REQUIRE_OK(mkdir("d", 0755));
	REQUIRE_OK(h_touch("d/f"));
	REQUIRE_OK(h_touch("g"));
	for (mode_t m = 0; m < 8; m++) {
		bool ok = (m & 3) == 3;

		h_ctx("own directory of mode 0%o00", m);
		REQUIRE_OK(chmod("d", m << 6));
		if (ok) {
			EXPECT_OK(rename("d/f", "d/h"));
			EXPECT_OK(rename("d/h", "d/f"));
			EXPECT_OK(rename("g", "d/g"));
			EXPECT_OK(rename("d/g", "g"));
		} else {
			EXPECT_ERR(EACCES, rename("d/f", "d/h"));
			EXPECT_ERR(EACCES, rename("d/f", "h"));
			EXPECT_ERR(EACCES, rename("g", "d/g"));
		}
	}
	h_ctx(NULL);
	h_skip("renames by other users need root");
}
