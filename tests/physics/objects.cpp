#include "physics/objects.hpp"

#include <gtest/gtest.h>

namespace {

using namespace bl::physics;

TEST(Objects, CategoriesAreThoseOfTheFourTopTokens) {
  EXPECT_EQ(category(1, 0, 0), kJet);
  EXPECT_EQ(category(1, 0, 1), kBjet);
  EXPECT_EQ(category(1, 0, 0.49f), kJet);
  EXPECT_EQ(category(1, 0, 0.5f), kBjet);
  EXPECT_EQ(category(1, 0, 0.5f, 0.7f), kJet);
  EXPECT_EQ(category(2, -1, 0), 3);
  EXPECT_EQ(category(2, 1, 0), 4);
  EXPECT_EQ(category(3, -1, 0), 5);
  EXPECT_EQ(category(3, 1, 0), 6);
  EXPECT_EQ(category(4, 0, 0), 7);
  EXPECT_EQ(category(5, -1, 0), 8);
  EXPECT_EQ(category(5, 1, 0), 9);
  EXPECT_EQ(category(0, 0, 0), kNone);
  EXPECT_EQ(category(6, 0, 0), kNone);
  EXPECT_EQ(category_name(kMuonPlus), "m+");
  EXPECT_EQ(category_name(11), "?");
}

TEST(Objects, EverySpellingOfATypeAndSignIsRead) {
  EXPECT_TRUE(spelled("b")->btag);
  EXPECT_EQ(spelled("mu-")->type, ObjectType::muon);
  EXPECT_EQ(spelled("mu-")->charge, -1);
  EXPECT_EQ(spelled("m+")->charge, 1);
  EXPECT_EQ(spelled("e")->charge, 0);
  EXPECT_EQ(spelled("b-jet")->type, ObjectType::jet);
  EXPECT_EQ(spelled("tau+")->type, ObjectType::tau);
  EXPECT_FALSE(spelled("x"));
  EXPECT_FALSE(spelled(""));
  // The category of what was read has the name that it was read from.
  for (const char* name : {"j", "b", "e-", "e+", "m-", "m+", "g", "tau-", "tau+"}) {
    const auto s = spelled(name);
    ASSERT_TRUE(s) << name;
    EXPECT_EQ(category_name(category(static_cast<std::uint8_t>(s->type), s->charge, s->btag ? 1.0f : 0.0f)), name);
  }
}

TEST(Objects, TypesHaveNames) {
  for (std::uint8_t t = 1; t <= kObjectTypes; ++t) EXPECT_EQ(static_cast<std::uint8_t>(*type_named(name_of(static_cast<ObjectType>(t)))), t);
  EXPECT_FALSE(type_named("jets"));
  EXPECT_FALSE(type_named(""));
}

}  // namespace
